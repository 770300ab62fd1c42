//! Payments of any size add up.

use deltawatch::views::identity::columns::{Payments, Tallies};

#[test]
fn payments_of_any_size_add_up_and_are_taken_away() {
    let amounts = [0, 1, -1, 12_345, i64::MAX, i64::MIN, i64::MAX, i64::MAX, -9_000_000_000_000_000_000];
    let (mut all, mut count, mut sum) = (Payments::default(), 0, 0i128);
    for amount in amounts.into_iter().cycle().take(9_000) {
        all.add(Payments::new(1, amount));
        (count, sum) = (count + 1, sum + i128::from(amount));
        assert_eq!((all.count(), all.sum()), (count, sum));
    }
    // More is taken away than was there: events that leave before late ones come.
    for amount in amounts.into_iter().rev().cycle().take(9_100) {
        all.add(Payments::new(1, amount).negated());
        (count, sum) = (count - 1, sum - i128::from(amount));
        assert_eq!((all.count(), all.sum()), (count, sum));
    }
    assert!(count < 0);
    let mut tallies = Tallies::default();
    (0..4).for_each(|_| tallies.add_one(5, Payments::new(1, i64::MAX)));
    assert_eq!((tallies.of(5).count(), tallies.of(5).sum()), (4, 4 * i128::from(i64::MAX)));
    assert_eq!(tallies.of(4), Payments::default());
}
