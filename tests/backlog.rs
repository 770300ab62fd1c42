//! How an epoch's repairs are shared out: the same rows on any number of workers, about as many as the budget says.

use std::collections::BTreeMap;

use deltawatch::event::Key;
use deltawatch::flow::LAST;
use deltawatch::flow::{Cause, Epoch, Repair};
use deltawatch::operators::backlog::{Backlog, KEYS_ASSUMED, Stretch};

/// Rows per key: row `n` at time `n`.
const ROWS: i64 = 200;

/// Times that each (key, row) is walked.
type Walked = BTreeMap<(u64, i64), usize>;

/// Repairs marks on so many workers; the rows walked in each epoch, and the keys that are left.
fn walked(workers: u64, epochs: Epoch, repair: &dyn Fn(Epoch, u64) -> Repair) -> (Vec<Walked>, usize) {
    let mut backlogs: Vec<Backlog> = (0..workers).map(|_| Backlog::default()).collect();
    let mut all = Vec::new();
    for epoch in 0..epochs {
        // Keys are marked in turns, some again while they are walked.
        for n in (0..40).filter(|n| (n * 7 + epoch) % 11 == 0 && epoch < 60) {
            let key = Key::from_int(n as i64);
            let after = ((n + epoch) as i64 % 50, LAST);
            let stretch = Stretch { after, until_ms: ROWS - 1, cause: Cause::LateEvent };
            backlogs[(key.route() % workers) as usize].mark(3, key, stretch);
        }
        let waiting = backlogs.iter().map(Backlog::len).sum::<usize>() as u64;
        let mut rows = Walked::new();
        for backlog in &mut backlogs {
            let mut visit = |key: Key, stretch: Stretch, limit: i64| {
                let first = stretch.after.0 + 1;
                let last = stretch.until_ms.min(first + limit - 1);
                (first..=last).for_each(|row| *rows.entry((key.lo, row)).or_default() += 1);
                ((last - first + 1).max(0) as usize, (last < stretch.until_ms).then_some((last, LAST)))
            };
            backlog.hasten(epoch as i64 / 3, |_, key, stretch| {
                visit(key, stretch, ROWS);
            });
            backlog.repair(epoch, repair(epoch, waiting), |_, key, stretch, limit| visit(key, stretch, limit as i64));
        }
        all.push(rows);
    }
    (all, backlogs.iter().map(Backlog::len).sum())
}

#[test]
fn the_number_of_workers_does_not_decide_which_rows_are_walked() {
    let budgets: [&dyn Fn(Epoch, u64) -> Repair; 5] = [
        &|_, _| Repair { rows: 64, keys: 0 },
        &|_, keys| Repair { rows: 64, keys },
        // Fewer rows than keys: they take turns.
        &|epoch, keys| Repair { rows: 1 + epoch % 9, keys },
        &|epoch, _| Repair { rows: 5, keys: epoch * 7 % 50 },
        // A log without the fact still gets on.
        &|_, _| Repair::default(),
    ];
    for (case, budget) in budgets.iter().enumerate() {
        let (one, left) = walked(1, 3_000, budget);
        assert_eq!(left, 0, "budget {case}: everything is walked in the end");
        let reached: usize = (0..40).filter(|key| one.iter().any(|rows| rows.contains_key(&(*key, ROWS - 1)))).count();
        assert_eq!(reached, 40, "budget {case}: a key is not walked to its last row");
        for workers in 2..=5 {
            assert!(walked(workers, 3_000, budget).0 == one, "budget {case} on {workers} workers");
        }
    }
}

/// Rows walked per epoch where so many keys of 100 rows wait.
fn per_epoch(keys: i64, repair: Repair, epochs: Epoch) -> Vec<usize> {
    let mut backlog = Backlog::default();
    for key in 0..keys {
        let stretch = Stretch { after: (0, LAST), until_ms: 100, cause: Cause::LateEvent };
        backlog.mark(0, Key::from_int(key), stretch);
    }
    let epoch = |epoch| {
        let mut rows = 0;
        backlog.repair(epoch, repair, |_, _, stretch, limit| {
            rows += limit;
            (limit, Some((stretch.after.0 + limit as i64, LAST)))
        });
        rows
    };
    (0..epochs).map(epoch).collect()
}

#[test]
fn a_key_alone_gets_all_rows_and_many_share_them() {
    let assumed = 64 / KEYS_ASSUMED as usize;
    // In its first epoch a key is not among those that were counted.
    assert_eq!(per_epoch(1, Repair { rows: 64, keys: 1 }, 3), [assumed, 64, 64]);
    assert_eq!(per_epoch(1, Repair { rows: 64, keys: 0 }, 3), [assumed; 3]);
    assert_eq!(per_epoch(32, Repair { rows: 64, keys: 32 }, 3), [64; 3]);
    // Far more keys than rows: about as many rows as the budget says in each epoch, and every key in its turn.
    let crowded = per_epoch(6_400, Repair { rows: 64, keys: 6_400 }, 200);
    let (least, most) = (crowded[1..].iter().min(), crowded.iter().max());
    assert!(least > Some(&20) && most < Some(&130), "{crowded:?}");
    let all: usize = crowded.iter().sum();
    assert!((11_000..15_000).contains(&all), "{all} rows in 200 epochs");
}
