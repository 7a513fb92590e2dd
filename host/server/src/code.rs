//! The code of an enrolment token: short enough to be read out, and the same for everybody who
//! knows the token's hash, so that nobody on the way can have another agent approved.

/// Digits without those that are taken for others.
const DIGITS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Digits of a code; five bits each.
const LENGTH: usize = 8;

/// The code of the SHA-256 of a token, as in `K7QM-2XHD`.
#[must_use]
pub fn code(hash: &[u8; 32]) -> String {
    let bits = u64::from_be_bytes([
        hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
    ]);
    let mut code = String::with_capacity(LENGTH + 1);
    for place in 0..LENGTH {
        if place == LENGTH / 2 {
            code.push('-');
        }
        let digit = bits >> (64 - 5 * (place + 1)) & 31;
        code.push(char::from(DIGITS[digit as usize]));
    }
    code
}

/// A code as somebody typed it, in the form of [`code`].
#[must_use]
pub fn typed(text: &str) -> Option<String> {
    let digits: String =
        text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
    let known = digits.bytes().all(|digit| DIGITS.contains(&digit));
    (known && digits.len() == LENGTH)
        .then(|| format!("{}-{}", &digits[..LENGTH / 2], &digits[LENGTH / 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_of_the_first_forty_bits_and_is_known_however_it_is_typed() {
        assert_eq!(code(&[0; 32]), "AAAA-AAAA");
        assert_eq!(code(&[0xff; 32]), "9999-9999");
        let mut hash = [0; 32];
        hash[4] = 1;
        assert_eq!(code(&hash), "AAAA-AAAB");
        hash[5] = 0xff;
        assert_eq!(code(&hash), "AAAA-AAAB");
        for text in ["K7QM-2XHD", "k7qm2xhd", " k7qm 2xhd "] {
            assert_eq!(typed(text).as_deref(), Some("K7QM-2XHD"));
        }
        for text in ["", "K7QM-2XH", "K7QM-2XHDD", "K7QM-2XH0", "K7QM-2XHI", "web-1"] {
            assert_eq!(typed(text), None, "{text}");
        }
    }
}
