//! Offers figures to Prometheus where the configuration says so, and nowhere else.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::{LocalExecutor, Timer, future};

use super::running::{Next, Running, State};
use crate::control::metrics::metrics;
use crate::control::report::{Feature, State as Health};
use crate::control::scrape::{self, Source};

/// Time until the next try.
const PAUSE: Duration = Duration::from_secs(16);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Scrape {
    trouble: Option<String>,
    /// The configuration may have changed.
    changed: (Sender<()>, Receiver<()>),
}

impl Default for Scrape {
    fn default() -> Self {
        Self { trouble: None, changed: bounded(1) }
    }
}

impl Scrape {
    /// Looks at the configuration again.
    pub(super) fn look_again(&self) {
        let _ = self.changed.0.try_send(());
    }
}

impl State {
    /// Whether figures are offered, where that is wanted.
    pub(super) fn scrape_feature(&self) -> Option<Feature> {
        let address = self.plan.notify.metrics?;
        let trouble = &self.scrape.trouble;
        Some(Feature {
            name: "metrics".to_owned(),
            state: if trouble.is_some() { Health::Degraded } else { Health::Active },
            rung: if trouble.is_some() { "none".to_owned() } else { url(address) },
            reasons: trouble.iter().cloned().collect(),
        })
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}{}", scrape::PATH)
}

impl Running {
    /// Listens while the configuration wants it.
    pub(super) async fn offer_figures(self: &Rc<Self>, executor: &LocalExecutor<'static>) -> Next {
        let changed = self.state.lock().scrape.changed.1.clone();
        loop {
            let wish = self.state.lock().plan.notify.metrics;
            let is_over = async {
                while changed.recv().await.is_ok() {
                    if self.state.lock().plan.notify.metrics != wish {
                        break;
                    }
                }
                None
            };
            let Some(address) = wish else {
                is_over.await;
                continue;
            };
            let work = async {
                let listener = match scrape::listen(address) {
                    Ok(listener) => listener,
                    Err(error) => return Some(error),
                };
                self.state.lock().scrape.trouble = None;
                // Clients must not keep what ends with the tasks.
                let running = Rc::downgrade(self);
                let report: Source = Rc::new(move || {
                    let running = running.upgrade();
                    running.map(|it| metrics(&it.status())).unwrap_or_default()
                });
                Some(scrape::serve(listener, executor, report).await)
            };
            let Some(error) = future::or(is_over, work).await else { continue };
            let why = format!("listen at {address}: {error}");
            log::warn!("metrics: {why}");
            self.state.lock().scrape.trouble = Some(why);
            let wait = async { _ = Timer::after(PAUSE).await };
            future::or(wait, async { _ = changed.recv().await }).await;
        }
    }
}
