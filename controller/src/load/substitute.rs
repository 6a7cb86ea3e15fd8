//! `${NAME}` in the `stringData` of Secrets.

use serde_json::Value;

/// Replaces `${NAME}` by the variable of that name in all values of `stringData`; `$${` stands for `${`. Other text
/// with a dollar sign stays as it is. Gives the keys whose variable is not set, with its name.
pub(super) fn secret(
    value: &mut Value,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut unset = Vec::new();
    let data = value.get_mut("stringData").and_then(Value::as_object_mut);
    for (key, value) in data.into_iter().flatten() {
        if let Value::String(text) = value {
            match expand(text, environment) {
                Ok(expanded) => *text = expanded,
                Err(name) => unset.push((key.clone(), name)),
            }
        }
    }
    unset
}

fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
            continue;
        }
        let name = from
            .strip_prefix("${")
            .and_then(|f| f.split_once('}'))
            .filter(|(n, _)| is_name(n));
        match name {
            Some((name, after)) => {
                out.push_str(&environment(name).ok_or_else(|| name.to_owned())?);
                rest = after;
            }
            None => {
                out.push('$');
                rest = from.strip_prefix('$').unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_literals_and_other_dollars() {
        let env = |name: &str| (name == "KEY").then(|| "v$".to_owned());
        for (text, expanded) in [
            ("${KEY}", "v$"),
            ("a${KEY}b${KEY}", "av$bv$"),
            ("$${KEY}", "${KEY}"),
            ("$$${KEY}", "$${KEY}"),
            ("$KEY $ $$ ${} ${1} ${a-b}", "$KEY $ $$ ${} ${1} ${a-b}"),
            ("${KEY", "${KEY"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expanded), "{text}");
        }
        assert_eq!(expand("x${NOPE}", &env), Err("NOPE".to_owned()));
    }
}
