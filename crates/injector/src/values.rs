//! How many values a JSON text has, counted before any of them is made.
//!
//! Called by `review.rs` and `probes.rs` with texts of strangers: two bytes of such a text make a value of some fifty.
//! It must never allocate, and never count fewer than a parser would make.

/// No pod known to us has a hundredth.
pub(crate) const MOST_VALUES: usize = 200_000;

/// Whether there are no more than [`MOST_VALUES`]. Each value but the first follows a bracket, a brace or a comma; in
/// texts these mean nothing.
pub(crate) fn are_few(text: &[u8]) -> bool {
    let (mut count, mut quoted, mut escaped) = (1_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' | b',' if !quoted => count += 1,
            _ => {}
        }
    }
    count <= MOST_VALUES
}
