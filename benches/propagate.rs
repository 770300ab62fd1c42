//! Clusters by differential iteration: what a tick costs there, beside the owner of all links (`links`).

use std::time::Instant;

use deltawatch::event::Key;
use deltawatch::views::identity::propagate::{Entity, ROUNDS_MAX, propagate};
use differential_dataflow::input::InputSession;
use hdrhistogram::Histogram;
use timely::dataflow::operators::Probe;

/// Links that are there, in clusters of about 30 values.
const LINKS: f64 = 200_000.0;
const TICKS: f64 = 500.0;
const PER_TICK: u64 = 100;

/// Ticks of 100 links that come and 100 that go.
pub fn propagation(share: f64) {
    let (count, ticks) = ((LINKS * share) as u64, (TICKS * share).max(20.0) as u64);
    timely::execute_directly(move |worker| {
        let mut links = InputSession::<u64, (Entity, Entity), isize>::new();
        let probe = worker.dataflow(|scope| {
            let clusters = propagate(links.to_collection(scope), ROUNDS_MAX);
            clusters.clusters.inner.probe().0
        });
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut link = move || {
            let account = random(count / 3 + 1);
            let value = (account / 12 * 12 + random(12)) * 3 / 2 + random(2);
            let key = |number: u64| Key::from_int(number as i64);
            ((0, key(account)), (1, key(value)))
        };
        let mut live: Vec<(Entity, Entity)> = (0..count).map(|_| link()).collect();
        live.sort_unstable();
        live.dedup();
        let start = Instant::now();
        live.iter().for_each(|&one| links.insert(one));
        let mut close = |links: &mut InputSession<u64, (Entity, Entity), isize>, epoch: u64| {
            links.advance_to(epoch);
            links.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
        };
        close(&mut links, 1);
        let per_s = live.len() as f64 / start.elapsed().as_secs_f64();
        let mut times = Histogram::<u64>::new_with_max(60_000_000_000, 3).expect("a valid range");
        for tick in 0..ticks {
            let start = Instant::now();
            for number in 0..PER_TICK {
                let at = ((tick * PER_TICK + number) % live.len() as u64) as usize;
                links.remove(live[at]);
                live[at] = link();
                links.insert(live[at]);
            }
            close(&mut links, tick + 2);
            times.saturating_record(start.elapsed().as_nanos() as u64);
        }
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| times.value_at_quantile(share) as f64 / 1e6);
        println!(
            "propagate, {} links: {per_s:.0} links/s; 100 added and 100 withdrawn   ms per tick: p50 {p50:.2}   p99 {p99:.2}   max {max:.2}",
            live.len()
        );
    });
}
