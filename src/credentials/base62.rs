//! Bytes as letters and digits, in blocks of 8 bytes to 11 characters, the last one shorter: linear in time, leading
//! zeros kept, one text for one sequence of bytes. The crates there are encode single integers of 128 bits at most.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many characters a block of so many bytes takes.
const WIDTHS: [usize; 9] = [0, 2, 3, 5, 6, 7, 9, 10, 11];

pub(super) const fn encoded_len(bytes: usize) -> usize {
    bytes / 8 * 11 + WIDTHS[bytes % 8]
}

pub(super) fn encode(bytes: &[u8], out: &mut String) {
    for block in bytes.chunks(8) {
        let number = block.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        push_number(number, WIDTHS[block.len()], out);
    }
}

/// The lowest digits of `number`, exactly `width` of them.
pub(super) fn push_number(number: u64, width: usize, out: &mut String) {
    let mut digits = [0; 11];
    let mut rest = number;
    for digit in digits[..width].iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    out.extend(digits[..width].iter().map(|digit| char::from(*digit)));
}

/// Appends to `out`; `None` where the text is not what [`encode`] makes.
pub(super) fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    for block in text.as_bytes().chunks(11) {
        let bytes = WIDTHS.iter().position(|width| *width == block.len())?;
        let mut number = 0_u128;
        for digit in block {
            number = number * 62 + ALPHABET.iter().position(|known| known == digit)? as u128;
        }
        if number >> (8 * bytes) != 0 {
            return None;
        }
        out.extend_from_slice(&number.to_be_bytes()[16 - bytes..]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut text = String::new();
        encode(bytes, &mut text);
        text
    }

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decode(text, &mut bytes)?;
        Some(bytes)
    }

    #[test]
    fn blocks_are_as_wide_as_they_must_be() {
        assert_eq!(encoded(&[]), "");
        assert_eq!(encoded(&[0]), "00");
        assert_eq!(encoded(&[0, 61]), "00z");
        assert_eq!(encoded(&[255; 8]), "LygHa16AHYF");
        assert_eq!(encoded(&[0; 9]), "0".repeat(13));
        for more in ["0", "zz", "zzzzzzzzzzz", "0000", "-0"] {
            assert_eq!(decoded(more), None, "{more}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes: Vec<u8>) {
            let text = encoded(&bytes);
            prop_assert_eq!(text.len(), encoded_len(bytes.len()));
            prop_assert_eq!(decoded(&text), Some(bytes));
        }

        #[test]
        fn one_text_for_one_sequence(text in "[0-9A-Za-z]{0,40}") {
            if let Some(bytes) = decoded(&text) {
                prop_assert_eq!(encoded(&bytes), text);
            }
        }
    }
}
