//! Damaged files end in an error of one line, never in a panic.

use super::{GOLDEN, parse};
use proptest::prelude::*;

/// One way to damage a file.
#[derive(Debug, Clone)]
enum Damage {
    /// Replace the byte at a place.
    Byte(prop::sample::Index, u8),
    /// Cut a range out.
    Cut(prop::sample::Index, usize),
    /// Repeat a range.
    Repeat(prop::sample::Index, usize),
    /// Exchange two lines.
    Swap(prop::sample::Index, prop::sample::Index),
    /// Put text in.
    Insert(prop::sample::Index, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at(), 1usize..80).prop_map(|(at, len)| Damage::Cut(at, len)),
        (at(), 1usize..80).prop_map(|(at, len)| Damage::Repeat(at, len)),
        (at(), at()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (at(), "[ -~\n]{1,12}|\\PC{1,4}").prop_map(|(at, text)| Damage::Insert(at, text)),
    ]
}

fn apply(text: &mut Vec<u8>, damage: Damage) {
    if text.is_empty() {
        return;
    }
    match damage {
        Damage::Byte(at, byte) => {
            let at = at.index(text.len());
            text[at] = byte;
        }
        Damage::Cut(at, len) => {
            let from = at.index(text.len());
            text.drain(from..(from + len).min(text.len()));
        }
        Damage::Repeat(at, len) => {
            let from = at.index(text.len());
            let piece = text[from..(from + len).min(text.len())].to_vec();
            text.splice(from..from, piece);
        }
        Damage::Swap(a, b) => {
            let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            let swapped = lines.join(&b'\n');
            *text = swapped;
        }
        Damage::Insert(at, piece) => {
            let at = at.index(text.len());
            text.splice(at..at, piece.into_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(damages in prop::collection::vec(damage(), 1..6)) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        for damage in damages {
            apply(&mut bytes, damage);
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = parse(&text) {
            prop_assert!(error.starts_with("server-a.toml"), "{error}");
            prop_assert!(!error.contains('\n'), "{error}");
            prop_assert!(error.len() < 1000, "{error}");
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }
}
