//! The `Date` of an answer (RFC 9110 section 6.6.1), made once a second and thread.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(crate) type Text = [u8; 29];

thread_local! {
    static LAST: Cell<(u64, Text)> = const { Cell::new((u64::MAX, [0; 29])) };
}

/// The current time as an IMF-fixdate.
pub(crate) fn now() -> Text {
    let second = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let (of, text) = LAST.get();
    if of == second {
        return text;
    }
    let text = format(second);
    LAST.set((second, text));
    text
}

/// Formats seconds since the epoch.
fn format(second: u64) -> Text {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let days = second / 86_400;
    let (year, month, day) = civil(days);
    let time = second % 86_400;
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut put = |at: usize, part: &[u8]| {
        if let Some(slot) = text.get_mut(at..at + part.len()) {
            slot.copy_from_slice(part);
        }
    };
    let two = |n: u64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    put(0, DAYS.get((days % 7) as usize).copied().unwrap_or(b"Thu"));
    put(5, &two(day));
    put(8, MONTHS.get(month as usize - 1).copied().unwrap_or(b"Jan"));
    put(12, &two(year / 100));
    put(14, &two(year % 100));
    put(17, &two(time / 3600));
    put(20, &two(time / 60 % 60));
    put(23, &two(time % 60));
    text
}

/// Year, month (1 to 12) and day of a day since the epoch, in the Gregorian calendar: eras of 400 years, counted
/// from March so that the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let m = (5 * of_year + 2) / 153;
    let day = of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format(second)).unwrap(), text);
        }
    }
}
