//! Lists in pages: never more than a page is rendered, however much there is.

use serde::Deserialize;
use serde_json::{Value, json};

/// Items of a page that asks for no number, and the most that one can have.
const LIMIT: usize = 100;
const MOST: usize = 1000;

/// `?limit=N&continue=TOKEN`
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    /// The key after which the page begins, as the page before gave it.
    #[serde(rename = "continue")]
    after: Option<String>,
}

impl Page {
    /// The page of items that are in the order of their keys. `continue` stands in the answer while there are more.
    pub(super) fn of<K: AsRef<str>, T>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
        render: impl Fn(&str, &T) -> Value,
    ) -> Value {
        let limit = self.limit.unwrap_or(LIMIT).clamp(1, MOST);
        let after = |key: &str| self.after.as_deref().is_none_or(|after| key > after);
        let mut items = items.into_iter().filter(|(key, _)| after(key.as_ref()));
        let mut last = None;
        let mut rendered = Vec::new();
        for (key, item) in items.by_ref().take(limit) {
            rendered.push(render(key.as_ref(), &item));
            last = Some(key);
        }
        let mut page = json!({"items": rendered});
        if items.next().is_some()
            && let (Some(last), Some(page)) = (last, page.as_object_mut())
        {
            page.insert("continue".to_owned(), last.as_ref().into());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_and_have_a_most() {
        let items: Vec<_> = (0..2500).map(|i| (format!("{i:05}"), i)).collect();
        let mut seen = 0;
        let mut page = Page {
            limit: Some(usize::MAX),
            after: None,
        };
        loop {
            let answer = page.of(items.iter().map(|(k, v)| (k, *v)), |_, v| json!(v));
            let list = answer["items"].as_array().unwrap();
            assert!(list.len() <= MOST);
            for item in list {
                assert_eq!(item, &json!(seen));
                seen += 1;
            }
            match answer["continue"].as_str() {
                Some(after) => page.after = Some(after.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen, 2500);
    }
}
