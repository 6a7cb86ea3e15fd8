//! Guesses at what somebody meant who wrote something else.

/// The candidate that is closest to `word`, if one is close: a slip of the finger or another case.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a String>,
) -> Option<&'a str> {
    // Nobody types a field name of this length by mistake, and the effort grows with the square.
    if word.len() > 64 {
        return None;
    }
    let bound = 1 + word.len() / 4;
    candidates
        .map(|candidate| {
            (
                distance(&word.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate.as_str())
}

/// The number of letters to insert, remove or replace on the way from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut last = i + 1;
        for ((b, diagonal), above) in to.iter().zip(&row).zip(row.iter().skip(1)) {
            last = (diagonal + usize::from(a != *b))
                .min(above + 1)
                .min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let fields = ["backends", "hostnames", "redirect", "requestHeaders"].map(String::from);
        let hint = |word| closest(word, fields.iter());
        assert_eq!(hint("backend"), Some("backends"));
        assert_eq!(hint("hostname"), Some("hostnames"));
        assert_eq!(hint("requestheaders"), Some("requestHeaders"));
        assert_eq!(hint("redirct"), Some("redirect"));
        assert_eq!(hint("weight"), None);
        assert_eq!(hint(&"x".repeat(1000)), None);
    }
}
