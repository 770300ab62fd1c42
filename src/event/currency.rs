//! Currencies: how many digits their minor units have (ISO 4217).

/// Those whose minor units have not two digits.
const OTHERS: [(u8, &[&str]); 3] = [
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
    (4, &["CLF", "UYW"]),
];

/// Digits of the minor units of a currency, by its code in letters of any case; `None` if it is no code.
pub(crate) fn minor_digits(code: &str) -> Option<u8> {
    let code = code.trim();
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let is = |known: &&str| known.eq_ignore_ascii_case(code);
    Some(OTHERS.iter().find(|(_, codes)| codes.iter().any(is)).map_or(2, |(digits, _)| *digits))
}
