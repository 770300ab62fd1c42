//! Values looked up on arrival, packed: they are kept with their transaction, so that a row read again sees what its first row
//! saw.
//!
//! Cost: one or two bytes per small integer or missing value, nine per other value, two per look-up.

/// Adds the answer of a look-up: its number, and its values.
pub fn note(kept: &mut Vec<u8>, plan: u16, values: &[u64]) {
    kept.extend(plan.to_le_bytes());
    values.iter().for_each(|&word| pack(f64::from_bits(word), kept));
}

/// Hands out each look-up that was noted; `width` says how many values it has.
pub fn recall(mut kept: &[u8], width: impl Fn(u16) -> usize, mut give: impl FnMut(u16, &mut dyn Iterator<Item = f64>)) {
    while let Some((plan, rest)) = kept.split_first_chunk() {
        let plan = u16::from_le_bytes(*plan);
        kept = rest;
        give(plan, &mut (0..width(plan)).map(|_| unpack(&mut kept)));
    }
}

/// First bytes that do not stand for themselves.
const MISSING: u8 = 255;
const FLOAT: u8 = 254;
const INT16: u8 = 253;

/// Packs a value: small non-negative integers in one byte, others up to 65 535 in three, the rest in nine, bit for bit.
/// All missing values become one.
fn pack(value: f64, into: &mut Vec<u8>) {
    let whole = value as u16;
    if value.is_nan() {
        into.push(MISSING);
    } else if f64::from(whole).to_bits() != value.to_bits() {
        into.push(FLOAT);
        into.extend(value.to_le_bytes());
    } else if whole < u16::from(INT16) {
        into.push(whole as u8);
    } else {
        into.push(INT16);
        into.extend(whole.to_le_bytes());
    }
}

/// Takes a value off the front; what [`pack`] wrote is whole.
fn unpack(packed: &mut &[u8]) -> f64 {
    fn take<const N: usize>(packed: &mut &[u8]) -> [u8; N] {
        let (head, rest) = packed.split_first_chunk().map_or(([0; N], &[][..]), |(head, rest)| (*head, rest));
        *packed = rest;
        head
    }
    match take::<1>(packed)[0] {
        MISSING => f64::NAN,
        FLOAT => f64::from_le_bytes(take(packed)),
        INT16 => f64::from(u16::from_le_bytes(take(packed))),
        small => f64::from(small),
    }
}
