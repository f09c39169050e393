//! The known word that somebody probably meant.

/// The word of `known` that differs least from `word`, if it is near enough to be
/// a slip of the fingers: at most a third of its letters, and two at most for the
/// short ones.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // The distance costs the product of the lengths; nobody mistypes this much.
    if word.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.len() / 3).max(2))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance of two words, in characters, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    // `row[j]` is the distance between the part of `a` read so far and `b[..j]`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (read, letter) in a.chars().flat_map(char::to_lowercase).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = read + 1;
        next.push(left);
        for (other, above) in b.iter().zip(row.windows(2)) {
            let (diagonal, up) = (above[0], above[1]);
            left = (diagonal + usize::from(letter != *other)).min(up + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "mac"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("MAC", "mac"), 0);
    }

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["address", "port", "paths", "mtu", "encryption"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("encrytpion", known), Some("encryption"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"a".repeat(10_000), known), None);
    }
}
