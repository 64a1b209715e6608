//! Bulk throughput with Sluice and without, as a gate: a fault that costs a tenth of it is found here.
//! How little it costs without one is what `--bin throughput` measures, at length.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they saw")]

use std::sync::Mutex;
use std::time::Duration;

use sluice_tests::router::{Build, Lan, Router};
use sluice_tests::skip;
use sluice_tests::throughput::{Dress, Duel, Stand, Way, measure};

/// Least share of a plain router's throughput.
const LEAST: f64 = 0.9;
/// Rounds at once, and how often there may be more because a median is below that.
const ROUNDS: u32 = 6;
const TRIES: u32 = 5;
const TURN: Duration = Duration::from_millis(200);
const PLAIN: (usize, Dress) = (0, Dress::Plain);
/// Two measurements at once would measure each other.
static TURNS: Mutex<()> = Mutex::new(());

fn router(lan: Lan) -> Router {
    Router::new(Build { lan, super_packets: true, ..Build::default() }).unwrap()
}

/// Where the firewall offloads. A flowtable takes packets at the ports of a bridge, before the programs on
/// the bridge count them: a world for this has none.
fn offloading(world: &Router) -> Stand<'_> {
    let mut stand = Stand::new(world, None, true);
    stand.offload().unwrap();
    stand
}

/// By the clock, or by the work that both ends and the router had: what else this machine does falls on
/// one of them more than on the other.
fn share(duel: &Duel) -> f64 {
    duel.rate().median.max(1.0 / duel.work().median)
}

/// Measures until Sluice's share is what it must be at least, or there is no hope.
fn expect_little_cost(stand: Stand<'_>) {
    let stands = [stand];
    for way in Way::ALL {
        let mut duels = [Duel::new("Sluice", (0, Dress::Sluice("off")), PLAIN)];
        for _ in 0..TRIES {
            measure(&stands, &mut duels, way, (ROUNDS, TURN), |_| {}).unwrap();
            if share(&duels[0]) >= LEAST {
                break;
            }
        }
        let (rate, work) = (duels[0].rate(), duels[0].work());
        println!("{way:?}: rate {rate:?}, work {work:?}");
        assert!(share(&duels[0]) >= LEAST, "{way:?}: {:#?}", duels[0]);
    }
}

/// R167: what the fast path has decided costs it little; that every packet went there, as one of a
/// trusted flow, is checked for each turn. A router that decides nothing shows that the difference
/// would be seen.
#[test]
fn trusted_bulk_is_about_as_fast_as_without_sluice() {
    if skip::without_root() {
        return;
    }
    let _turn = TURNS.lock();
    let world = router(Lan::Bridge);
    let stand = Stand::new(&world, None, true);
    let stands = [stand];
    let mut queued = [Duel::new("every packet through a queue", (0, Dress::Everything), PLAIN)];
    measure(&stands, &mut queued, Way::Download, (ROUNDS, TURN), |_| {}).unwrap();
    println!("queued: rate {:?}, work {:?}", queued[0].rate(), queued[0].work());
    assert!(share(&queued[0]) < LEAST, "{queued:#?}");
    let [stand] = stands;
    expect_little_cost(stand);
}

/// R167: the same where the firewall offloads, and Sluice guards its rule; that the flow went past the
/// forward chain is checked for each turn, on both sides.
#[test]
fn trusted_bulk_through_a_flowtable_is_about_as_fast_as_without_sluice() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let _turn = TURNS.lock();
    let world = router(Lan::Plain);
    expect_little_cost(offloading(&world));
}

/// R167: no rate is told of a flow that was not offloaded, of merged frames neither, which are few.
#[test]
fn a_flow_that_does_not_take_the_flowtable_is_refused() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let _turn = TURNS.lock();
    let world = router(Lan::Plain);
    let stand = offloading(&world);
    let turn = |stand: &Stand<'_>| stand.turn(Way::Download, TURN, None);
    assert!(turn(&stand).unwrap().bytes > 0.0);
    // The same firewall, whose rule offloads nothing any more.
    world.firewall().unwrap();
    let refusal = turn(&stand).unwrap_err().to_string();
    assert!(refusal.contains("the connection is not offloaded"), "{refusal}");
}
