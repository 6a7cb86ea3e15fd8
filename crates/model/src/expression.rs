//! Conditions in CEL: read once, where they are checked and where they are used.
//!
//! A condition is about a fixed set of names, each a value or a field such as `request.path`. What it costs grows with
//! its length alone: macros that go over a list (`all`, `exists`, `map` ...) are refused, and regular expressions are
//! compiled with the condition.

use crate::limits::REGEX_BYTES;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::context::VariableResolver;
use cel::extractors::This;
use cel::{Context, ExecutionError, Program, Value};
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::fmt;
use std::panic::catch_unwind;
use std::sync::Arc;

/// What a name stands for in one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Text(String),
    Number(i64),
    /// The last of two equal keys counts.
    Map(Vec<(String, String)>),
}

/// Gives the values that a condition asks for; only those are asked for.
pub trait Names: Send + Sync {
    /// `None`: there is no such name, which a condition that compiled never asks for.
    fn get(&self, name: &str) -> Option<Datum>;
}

/// A condition that can be evaluated.
pub struct Expression {
    text: Box<str>,
    expression: IdedExpr,
    functions: Context<'static>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Reads a condition about `known` names. It is tried on `sample`, which must have them all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(text: &str, known: &[&str], sample: &dyn Names) -> Result<Self, String> {
        // The parser is generated code, of which not every path is known.
        let program = catch_unwind(|| Program::compile(text));
        let program = program
            .map_err(|_| "cannot be read".to_owned())?
            .map_err(|errors| {
                let first = errors.errors.first();
                let message = first.map_or("not an expression", |e| &*e.msg);
                format!("is no CEL: {}", message.lines().next().unwrap_or_default())
            })?;
        let mut expression = program.expression().clone();
        let mut patterns = HashMap::new();
        flatten(&mut expression, known, &mut patterns)?;
        let mut functions = Context::default();
        functions.add_function(
            "matches",
            move |This(text): This<Arc<String>>, pattern: Arc<String>| {
                // Every pattern of the text is there.
                patterns.get(&*pattern).is_some_and(|p| p.is_match(&text))
            },
        );
        let expression = Self {
            text: text.into(),
            expression,
            functions,
        };
        match expression.evaluate(sample) {
            Ok(Value::Bool(_)) => Ok(expression),
            Ok(_) => Err("is no condition: it must be true or false".to_owned()),
            // With other values it may be otherwise.
            Err(
                ExecutionError::NoSuchKey(_)
                | ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..),
            ) => Ok(expression),
            Err(ExecutionError::UndeclaredReference(name)) => {
                Err(format!("there is no function {name}"))
            }
            Err(
                ExecutionError::NoSuchOverload
                | ExecutionError::UnsupportedBinaryOperator(..)
                | ExecutionError::UnsupportedUnaryOperator(..)
                | ExecutionError::ValuesNotComparable(..)
                | ExecutionError::UnexpectedType { .. }
                | ExecutionError::UnsupportedTargetType { .. }
                | ExecutionError::NotSupportedAsMethod { .. },
            ) => Err("an operator or function does not fit the types of its values".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it is true. Where it cannot be told, such as by a key that is not there, it is not.
    pub fn holds(&self, names: &dyn Names) -> bool {
        matches!(self.evaluate(names), Ok(Value::Bool(true)))
    }

    fn evaluate(&self, names: &dyn Names) -> Result<Value, ExecutionError> {
        let resolver = Resolver(names);
        let mut context = self.functions.new_inner_scope();
        context.set_variable_resolver(&resolver);
        Value::resolve(&self.expression, &context)
    }
}

struct Resolver<'a>(&'a dyn Names);

impl VariableResolver for Resolver<'_> {
    fn resolve(&self, variable: &str) -> Option<Value> {
        Some(match self.0.get(variable)? {
            Datum::Text(text) => text.into(),
            Datum::Number(number) => number.into(),
            Datum::Map(map) => map.into_iter().collect::<HashMap<_, _>>().into(),
        })
    }
}

/// Makes one name of `request.path`, and refuses what has no place in a condition.
fn flatten(
    node: &mut IdedExpr,
    known: &[&str],
    patterns: &mut HashMap<String, Regex>,
) -> Result<(), String> {
    match &mut node.expr {
        Expr::Select(select) => {
            let Expr::Ident(root) = &select.operand.expr else {
                return flatten(&mut select.operand, known, patterns);
            };
            let name = format!("{root}.{}", select.field);
            if !known.contains(&&*name) {
                return Err(unknown(&name, known));
            }
            if select.test {
                return Err(format!("{name} is always there"));
            }
            node.expr = Expr::Ident(name);
        }
        Expr::Ident(name) if !known.contains(&&**name) => return Err(unknown(name, known)),
        Expr::Call(call) => {
            if call.func_name == "matches" {
                let Some(Expr::Literal(LiteralValue::String(pattern))) =
                    call.args.last().map(|last| &last.expr)
                else {
                    return Err("the pattern of matches() must be written out".to_owned());
                };
                let pattern = pattern.inner().to_owned();
                let regex = RegexBuilder::new(&pattern).size_limit(REGEX_BYTES).build();
                let regex = regex.map_err(|_| format!("{pattern:?} is no regular expression"))?;
                patterns.insert(pattern, regex);
            }
            if let Some(target) = &mut call.target {
                flatten(target, known, patterns)?;
            }
            for argument in &mut call.args {
                flatten(argument, known, patterns)?;
            }
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                flatten(element, known, patterns)?;
            }
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    flatten(&mut entry.key, known, patterns)?;
                    flatten(&mut entry.value, known, patterns)?;
                }
            }
        }
        Expr::Comprehension(_) => {
            return Err("all, exists, exists_one, map and filter are not available".to_owned());
        }
        Expr::Struct(_) | Expr::Unspecified => return Err("is no condition".to_owned()),
        Expr::Ident(_) | Expr::Literal(_) => {}
    }
    Ok(())
}

fn unknown(name: &str, known: &[&str]) -> String {
    format!("there is no {name}; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["request.path", "request.headers", "request.size", "route"];

    struct Sample;

    impl Names for Sample {
        fn get(&self, name: &str) -> Option<Datum> {
            Some(match name {
                "request.path" => Datum::Text("/a/b".into()),
                "request.headers" => Datum::Map(vec![("x-a".into(), "1".into())]),
                "request.size" => Datum::Number(3),
                "route" => Datum::Text("ns/r".into()),
                _ => return None,
            })
        }
    }

    #[test]
    fn conditions_hold_or_not() {
        for (text, holds) in [
            ("true", true),
            ("request.size == 3 && route == 'ns/r'", true),
            ("request.size > 3", false),
            ("request.path.startsWith('/a')", true),
            ("request.path.matches('^/[a-z]/b$')", true),
            ("matches(request.path, 'c')", false),
            ("request.headers['x-a'] == '1'", true),
            ("request.headers['x-b'] == '1'", false),
            ("!(request.headers['x-b'] == '1')", false),
            ("'x-b' in request.headers", false),
            ("has(request.headers.none) || request.size in [1, 3]", true),
            ("size(request.path) == 4 ? true : false", true),
            ("request.size / 0 == 1", false),
        ] {
            let expression = Expression::compile(text, KNOWN, &Sample).expect(text);
            assert_eq!(expression.holds(&Sample), holds, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_reason() {
        for (text, reason) in [
            ("request.size ==", "is no CEL"),
            ("request.size", "must be true or false"),
            (
                "request.pth == ''",
                "there is no request.pth; there are request.path",
            ),
            ("request == 1", "there is no request;"),
            ("rout == ''", "there is no rout;"),
            ("has(request.path)", "is always there"),
            ("nothing(1)", "there is no function nothing"),
            ("request.path + 1 == 2", "does not fit"),
            ("request.path.matches('(')", "is no regular expression"),
            ("request.path.matches(route)", "must be written out"),
            ("[1, 2].all(x, x > 0)", "not available"),
            ("Thing{a: 1} == 1", "is no condition"),
        ] {
            let error = Expression::compile(text, KNOWN, &Sample).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[ -~]{0,80}") {
            if let Ok(expression) = Expression::compile(&text, KNOWN, &Sample) {
                expression.holds(&Sample);
            }
        }
    }
}
