//! Clients of a listener: so many at a time, each for so long. None ever makes another one wait.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use smol::{LocalExecutor, Timer, future};

/// How clients are served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Who they are, for the log.
    pub(super) name: &'static str,
    /// Clients at a time; the next one is closed at once.
    pub(super) max: usize,
    /// How long a client may take to ask, and to take its answer.
    pub(super) patience: Duration,
}

/// Answers whom `accept` brings, until that fails or the task is dropped.
pub(super) async fn serve<S, F>(
    terms: Terms,
    executor: &LocalExecutor<'static>,
    accept: impl AsyncFn() -> io::Result<S>,
    answer: impl Fn(S) -> F,
) -> io::Error
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let clients = Rc::new(Cell::new(0));
    loop {
        let stream = match accept().await {
            Ok(stream) => stream,
            // The client went away between asking and being taken, or descriptors are short.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        let Some(place) = Place::take(&clients, terms.max) else { continue };
        let answer = answer(stream);
        executor
            .spawn(async move {
                let _place = place;
                let late = async {
                    Timer::after(terms.patience).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                if let Err(error) = future::or(answer, late).await {
                    log::debug!("{}: {error}", terms.name);
                }
            })
            .detach();
    }
}

/// A client's place among those served.
struct Place(Rc<Cell<usize>>);

impl Place {
    /// A place, unless `max` are taken.
    fn take(clients: &Rc<Cell<usize>>, max: usize) -> Option<Self> {
        let taken = clients.get();
        (taken < max).then(|| {
            clients.set(taken + 1);
            Self(Rc::clone(clients))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
