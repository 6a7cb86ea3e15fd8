//! Content codings, and which of them a client accepts (RFC 9110 section 12.5.3).

use crate::Headers;

/// A content coding that the gateway can write and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Br,
    Zstd,
}

impl Coding {
    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// By the name in any case; `x-gzip` is another name of `gzip`.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let is = |n: &str| name.eq_ignore_ascii_case(n.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("br") {
            Some(Self::Br)
        } else {
            is("zstd").then_some(Self::Zstd)
        }
    }
}

/// The client's weights in thousandths. Default: nothing but the plain form, which is also how a request without
/// `Accept-Encoding` is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptedCodings {
    gzip: u16,
    br: u16,
    zstd: u16,
    /// Of the plain form; 0 also where nothing is said of it, which makes it the last choice and not a forbidden one.
    identity: u16,
}

impl AcceptedCodings {
    /// What the `Accept-Encoding` fields of a request say. A weight that is no weight counts as 0.
    pub fn of(headers: &Headers) -> Self {
        let (mut gzip, mut br, mut zstd, mut identity, mut any) = (None, None, None, None, 0);
        let fields = headers.get_all("accept-encoding");
        for item in fields.flat_map(|v| v.split(|b| *b == b',')) {
            let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = match parts.next() {
                None => 1000,
                Some(parameter) => weight(parameter),
            };
            match Coding::parse(name) {
                Some(Coding::Gzip) => gzip = Some(weight),
                Some(Coding::Br) => br = Some(weight),
                Some(Coding::Zstd) => zstd = Some(weight),
                None if name == b"*" => any = weight,
                None if name.eq_ignore_ascii_case(b"identity") => identity = Some(weight),
                None => {}
            }
        }
        Self {
            gzip: gzip.unwrap_or(any),
            br: br.unwrap_or(any),
            zstd: zstd.unwrap_or(any),
            identity: identity.unwrap_or(any),
        }
    }

    /// The weight of a coding, 0 to 1000; 0: the client does not take it.
    pub const fn weight(self, coding: Coding) -> u16 {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Br => self.br,
            Coding::Zstd => self.zstd,
        }
    }

    /// The coding that the client likes best, of equal ones the first that is offered; `None`: the plain form.
    pub fn best(self, offered: &[Coding]) -> Option<Coding> {
        let mut best = None;
        let mut most = 0;
        for coding in offered {
            let weight = self.weight(*coding);
            if weight > most {
                (best, most) = (Some(*coding), weight);
            }
        }
        best.filter(|_| most >= self.identity)
    }
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> u16 {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return 0;
    };
    let (whole, decimals) = match value {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] => (*whole, decimals),
        _ => return 0,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let mut thousandths = 0;
    for i in 0..3 {
        let digit = decimals.get(i).map_or(0, |d| u16::from(d - b'0'));
        thousandths = thousandths * 10 + digit;
    }
    match (whole, thousandths) {
        (b'0', t) => t,
        (b'1', 0) => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(lines: &[&str]) -> Option<Coding> {
        let mut headers = Headers::default();
        for line in lines {
            headers.append("Accept-Encoding", line).unwrap();
        }
        AcceptedCodings::of(&headers).best(&[Coding::Zstd, Coding::Br, Coding::Gzip])
    }

    #[test]
    fn the_heaviest_wins_and_the_first_offered_among_equals() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br", Some(Coding::Br)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip;q=1.0, br;q=0.9", Some(Coding::Gzip)),
            ("gzip ; q=0.5 , br;Q=0.501", Some(Coding::Br)),
            ("br;q=0.001", Some(Coding::Br)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, gzip;q=0.2", Some(Coding::Gzip)),
            ("zstd;q=0, *", Some(Coding::Br)),
            ("gzip, identity", Some(Coding::Gzip)),
            ("gzip, identity;q=0", Some(Coding::Gzip)),
        ] {
            assert_eq!(best(&[line]), expected, "{line}");
        }
        assert_eq!(best(&["deflate", "gzip"]), Some(Coding::Gzip));
    }

    #[test]
    fn the_plain_form_where_nothing_else_is_wanted() {
        for line in [
            "identity",
            "deflate",
            "gzip;q=0",
            "gzip;q=0.0, *;q=0",
            "*;q=0",
            "gzip;q=0.5, identity",
            "br;q=0.5, *;q=0, identity;q=0.6",
            // Weights that are no weights.
            "gzip;q=1.001",
            "gzip;q=2",
            "gzip;q=0.0001",
            "gzip;q=-1",
            "gzip;q=",
            "gzip;level=1",
            "gzip;q=a",
            ",;,",
        ] {
            assert_eq!(best(&[line]), None, "{line}");
        }
        assert_eq!(best(&[]), None);
    }
}
