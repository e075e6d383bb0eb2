//! Stopping the guest.

use std::error::Error;

/// The virtual CPUs of the guest, as far as the engine needs them: to be stopped and let go.
pub trait Vcpus: Send + Sync {
    /// Returns once no vCPU runs guest code any more, nor enters it until [`Vcpus::resume`].
    ///
    /// # Errors
    /// Whatever keeps a vCPU from stopping; then none may be left stopped.
    fn pause(&self) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The same, by one who can be told to give up: `goes_on` is asked now and then, with the vCPU that is
    /// waited for. If it says no, every vCPU is let go and this returns false.
    ///
    /// Without an implementation of its own it is [`Vcpus::pause`], which neither tells nor asks.
    ///
    /// # Errors
    /// Those of [`Vcpus::pause`].
    fn pause_while(
        &self,
        goes_on: &mut dyn FnMut(u16) -> bool,
    ) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let _ = goes_on;
        self.pause().map(|()| true)
    }

    /// Lets the vCPUs go on. Called once after each pause that succeeded.
    fn resume(&self);
}

/// Every vCPU is stopped while this lives.
#[must_use = "the vCPUs go on as soon as this is dropped"]
pub struct Paused<'a>(&'a dyn Vcpus);

impl<'a> Paused<'a> {
    /// Stops every vCPU.
    ///
    /// # Errors
    /// Those of [`Vcpus::pause`].
    pub fn new(vcpus: &'a dyn Vcpus) -> Result<Self, Box<dyn Error + Send + Sync>> {
        vcpus.pause()?;
        Ok(Self(vcpus))
    }

    /// The same, unless `goes_on` says no: [`Vcpus::pause_while`].
    ///
    /// # Errors
    /// Those of [`Vcpus::pause`].
    pub fn new_while(
        vcpus: &'a dyn Vcpus,
        goes_on: &mut dyn FnMut(u16) -> bool,
    ) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        Ok(vcpus.pause_while(goes_on)?.then_some(Self(vcpus)))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}
