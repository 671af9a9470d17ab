//! Signals that ask this process to end, for work that has to end well.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure, OrFail as _};

/// The signals of a terminal's user, of a service manager and of a terminal that is closed. From the time that this is made
/// none of them ends the process by itself.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).or_fail(Code::Software);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one, and tells its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }

    /// Does what must not be done by half; a signal that came meanwhile is a failure all the same.
    pub(crate) async fn whole<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        let mut came = None;
        let done = loop {
            tokio::select! {
                biased;
                signal = self.next() => came = Some(signal),
                done = &mut work => break done,
            }
        };
        done.and_then(|done| came.map_or(Ok(done), |signal| Err(interrupted(signal))))
    }

    /// Does what may be left off in the middle: a signal ends it.
    pub(crate) async fn until<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            signal = self.next() => Err(interrupted(signal)),
        }
    }
}

/// What is said of a command that did not come to its end.
pub(crate) fn interrupted(signal: &str) -> Failure {
    Failure::new(Code::TryAgain, format!("interrupted by {signal}"))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Sent, raise};

    use super::*;

    #[tokio::test]
    async fn what_must_be_whole_is_done_and_the_signal_is_told() {
        let mut signals = Signals::new().unwrap();
        let mut others = Signals::new().unwrap();
        let (told, done) = tokio::sync::oneshot::channel::<()>();
        let work = async {
            raise(Sent::SIGHUP).unwrap();
            others.next().await;
            told.send(()).unwrap();
            Ok(())
        };
        let failure = signals.whole(work).await.unwrap_err();
        assert_eq!(failure.message(), "interrupted by SIGHUP");
        done.await.unwrap();

        let (told, done) = tokio::sync::oneshot::channel::<()>();
        let work = async {
            raise(Sent::SIGTERM).unwrap();
            std::future::pending::<()>().await;
            told.send(()).unwrap();
            Ok(())
        };
        assert_eq!(signals.until(work).await.unwrap_err().message(), "interrupted by SIGTERM");
        assert!(done.await.is_err(), "it was left off");
        assert_eq!(signals.until(async { Ok(7) }).await.unwrap(), 7);
    }
}
