//! Stopping the guest.

use std::error::Error;

/// The virtual CPUs of the guest, as far as the engine needs them: to be stopped and let go.
pub trait Vcpus: Send + Sync {
    /// Returns once no vCPU runs guest code any more, nor enters it until [`Vcpus::resume`].
    ///
    /// # Errors
    /// Whatever keeps a vCPU from stopping; then none may be left stopped.
    fn pause(&self) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Lets the vCPUs go on. Called once after each successful [`Vcpus::pause`].
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
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}
