//! QEMU's monitor: one command and its answer a line.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const UP: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// A monitor that takes commands.
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects to the one at `path`, as soon as there is one.
    ///
    /// # Errors
    /// There is none, or it speaks otherwise.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let deadline = Instant::now() + UP;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(LOOK),
            }
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.line()?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Gives a command; its answer.
    ///
    /// # Errors
    /// That of the monitor, or none came.
    pub fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = self.line()?;
            // What is neither is an event.
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
        }
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
