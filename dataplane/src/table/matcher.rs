//! One match of a rule, compiled: predicates that a request passes or is refused by.

use super::Query;
use ipnet::IpNet;
use model::pattern::whole;
use model::{
    CookieMatch, HeaderMatch, Match, Method, PathMatch, QueryMatch, SmolStr, ValueMatch, query,
};
use regex::Regex;
use std::net::IpAddr;

/// A compiled [`model::Match`].
#[derive(Debug)]
pub struct Matcher {
    /// Position in the rule.
    pub index: u32,
    pub path: PathMatch,
    path_regex: Option<Box<Regex>>,
    /// Most matches ask for nothing but a path.
    conditions: Option<Box<Conditions>>,
}

/// What a match asks beside the path.
#[derive(Debug)]
pub struct Conditions {
    /// Empty: every method.
    pub methods: Vec<Method>,
    pub headers: Vec<Predicate>,
    pub query: Vec<Predicate>,
    pub cookies: Vec<Predicate>,
    /// Empty: every client.
    pub clients: Vec<IpNet>,
}

/// A condition on the header lines, the query parameter or the cookie of one name.
#[derive(Debug)]
pub struct Predicate {
    pub name: Box<str>,
    pub wants: ValueMatch,
    regex: Option<Box<Regex>>,
}

/// Why a request whose path fits is refused.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'t> {
    /// Nothing but the method: 405 when no other rule matches.
    Method,
    Header(&'t Predicate),
    Query(&'t Predicate),
    Cookie(&'t Predicate),
    /// The client is in none of the networks.
    Client(&'t [IpNet]),
    /// The host belongs to this Tenant, and the Route does not.
    Owner(&'t str),
}

impl Matcher {
    /// Takes no request: paths begin with a slash, or are `*`.
    pub(super) const NOTHING: &Self = &Self {
        index: 0,
        path: PathMatch::Exact(SmolStr::new_static("")),
        path_regex: None,
        conditions: None,
    };

    /// # Errors
    /// The field and what is wrong with its regular expression.
    pub(super) fn compile(m: Match, index: u32) -> Result<Self, String> {
        let Match {
            path,
            methods,
            headers,
            query,
            cookies,
            clients,
        } = m;
        let path_regex = match &path {
            PathMatch::Regex(pattern) => Some(whole(pattern).map_err(|e| format!("path: {e}"))?),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
        };
        let header = |HeaderMatch { name, value }| Predicate::compile("headers", name, value);
        let parameter = |QueryMatch { name, value }| Predicate::compile("query", name, value);
        let cookie = |CookieMatch { name, value }| Predicate::compile("cookies", name, value);
        let conditions = Conditions {
            methods,
            headers: headers.into_iter().map(header).collect::<Result<_, _>>()?,
            query: query.into_iter().map(parameter).collect::<Result<_, _>>()?,
            cookies: cookies.into_iter().map(cookie).collect::<Result<_, _>>()?,
            clients,
        };
        Ok(Self {
            index,
            path,
            path_regex: path_regex.map(Box::new),
            conditions: (!conditions.is_none()).then(|| Box::new(conditions)),
        })
    }

    /// Of the path.
    pub(super) fn first_byte(&self) -> Option<u8> {
        match &self.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::Regex(path) => {
                path.as_bytes().first().copied()
            }
        }
    }

    /// What it asks beside the path.
    pub fn conditions(&self) -> &Conditions {
        static NONE: Conditions = Conditions {
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            clients: Vec::new(),
        };
        self.conditions.as_deref().unwrap_or(&NONE)
    }

    /// Whether the path is the one, or one of those, that it asks for.
    pub(super) fn covers(&self, path: &str) -> bool {
        match (&self.path, &self.path_regex) {
            (PathMatch::Exact(exact), _) => exact == path,
            (PathMatch::Prefix(prefix), _) => PathMatch::prefix_covers(prefix, path),
            (PathMatch::Regex(_), regex) => regex.as_ref().is_some_and(|r| r.is_match(path)),
        }
    }

    /// Everything but the path. The method comes last: a request refused for its method lacks nothing else.
    pub(super) fn judge(&self, q: &Query<'_>) -> Result<(), Refusal<'_>> {
        match &self.conditions {
            None => Ok(()),
            Some(conditions) => conditions.judge(q),
        }
    }

    /// How much of `path`, which fits, a prefix rewrite replaces: all of it unless a prefix was asked for.
    pub(super) fn prefix_len(&self, path: &str) -> usize {
        match &self.path {
            PathMatch::Prefix(prefix) => prefix.len(),
            PathMatch::Exact(_) | PathMatch::Regex(_) => path.len(),
        }
    }
}

impl Conditions {
    fn is_none(&self) -> bool {
        let Self {
            methods,
            headers,
            query,
            cookies,
            clients,
        } = self;
        methods.is_empty()
            && headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
            && clients.is_empty()
    }

    fn judge(&self, q: &Query<'_>) -> Result<(), Refusal<'_>> {
        for predicate in &self.headers {
            if !predicate.takes_header(q) {
                return Err(Refusal::Header(predicate));
            }
        }
        for predicate in &self.query {
            if !predicate.takes_parameter(q) {
                return Err(Refusal::Query(predicate));
            }
        }
        for predicate in &self.cookies {
            if !predicate.takes_one(q.headers.cookie(&predicate.name)) {
                return Err(Refusal::Cookie(predicate));
            }
        }
        if !self.clients.is_empty() && !takes_client(&self.clients, q.client) {
            return Err(Refusal::Client(&self.clients));
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|m| m.as_str() == q.method) {
            return Err(Refusal::Method);
        }
        Ok(())
    }
}

fn takes_client(networks: &[IpNet], client: IpAddr) -> bool {
    !client.is_unspecified() && networks.iter().any(|network| network.contains(&client))
}

impl Predicate {
    fn compile(field: &str, name: String, wants: ValueMatch) -> Result<Self, String> {
        let regex = match &wants {
            ValueMatch::Regex(pattern) => {
                Some(whole(pattern).map_err(|e| format!("{field}[{name}]: {e}"))?)
            }
            ValueMatch::Exact(_)
            | ValueMatch::Prefix(_)
            | ValueMatch::Present
            | ValueMatch::Absent => None,
        };
        Ok(Self {
            name: name.into(),
            wants,
            regex: regex.map(Box::new),
        })
    }

    /// Any line of the name may satisfy; `Absent` asks that there is none.
    fn takes_header(&self, q: &Query<'_>) -> bool {
        match &self.wants {
            ValueMatch::Present => q.headers.contains(&self.name),
            ValueMatch::Absent => !q.headers.contains(&self.name),
            _ => q.headers.get_all(&self.name).any(|v| self.takes(v)),
        }
    }

    fn takes_parameter(&self, q: &Query<'_>) -> bool {
        let value = q.query.and_then(|text| query::first(text, &self.name));
        self.takes_one(value.as_ref().map(|v| v.as_bytes()))
    }

    /// Where there is one value at most.
    fn takes_one(&self, value: Option<&[u8]>) -> bool {
        match (&self.wants, value) {
            (ValueMatch::Absent, value) => value.is_none(),
            (_, Some(value)) => self.takes(value),
            (_, None) => false,
        }
    }

    fn takes(&self, value: &[u8]) -> bool {
        match &self.wants {
            ValueMatch::Exact(wanted) => value == wanted.as_bytes(),
            ValueMatch::Prefix(wanted) => value.starts_with(wanted.as_bytes()),
            ValueMatch::Regex(_) => {
                let text = std::str::from_utf8(value);
                self.regex
                    .as_ref()
                    .zip(text.ok())
                    .is_some_and(|(regex, text)| regex.is_match(text))
            }
            ValueMatch::Present => true,
            ValueMatch::Absent => false,
        }
    }
}
