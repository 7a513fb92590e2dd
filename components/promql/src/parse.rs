//! The shape of an expression.

use crate::Obstacle;
use crate::lex::{Token, tokens};

/// Deepest nesting of an expression, and longest chain of operators of one precedence, which is a
/// nesting to the left.
const MAX_DEPTH: usize = 64;

/// An expression and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Number(f64),
    Text,
    Selector(Selector),
    /// Evaluated again and again over a range.
    Subquery,
    Call {
        name: String,
        arguments: Vec<Node>,
    },
    Aggregate {
        name: String,
        arguments: Vec<Node>,
        keys: Option<Keys>,
    },
    Binary {
        op: String,
        sides: Box<[Node; 2]>,
        matching: Matching,
    },
    Negated(Box<Node>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    pub(crate) name: Option<String>,
    pub(crate) matchers: Vec<(String, String, String)>,
    pub(crate) range_ms: Option<u64>,
    pub(crate) offset_ms: i64,
    /// Whether it is fixed in time by `@`.
    pub(crate) fixed: bool,
}

/// Labels that count, or all but them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Keys {
    pub(crate) without: bool,
    pub(crate) keys: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Matching {
    pub(crate) as_number: bool,
    pub(crate) keys: Option<Keys>,
    /// `left` or `right`, and the labels taken from the other side.
    pub(crate) many: Option<(&'static str, Vec<String>)>,
}

/// Operators from the loosest to the tightest; the last binds to the right.
const LEVELS: [&[&str]; 6] = [
    &["or"],
    &["and", "unless"],
    &["==", "!=", ">=", "<=", ">", "<"],
    &["+", "-"],
    &["*", "/", "%", "atan2"],
    &["^"],
];
const POWER: usize = 5;

pub(crate) const AGGREGATES: [&str; 12] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];

/// The whole text as one expression.
pub(crate) fn parse(text: &str) -> Result<Node, Obstacle> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len(), depth: 0 };
    let node = parser.level(0)?;
    match parser.tokens.get(parser.next) {
        None => Ok(node),
        Some((at, _)) => {
            Err(Obstacle { at: *at, message: "something stands after the end".to_owned() })
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Obstacle>;

impl Parser {
    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn is(&self, text: &str) -> bool {
        match self.peek() {
            Some(Token::Sign(sign)) => *sign == text,
            // Keywords are taken in any case.
            Some(Token::Word(word)) => word.eq_ignore_ascii_case(text),
            _ => false,
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let is = self.is(text);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.take(text) { Ok(()) } else { self.refuse(format!("{text:?} is missing here")) }
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(Obstacle { at: self.at(), message: message.into() })
    }

    fn level(&mut self, level: usize) -> Parsed<Node> {
        if level == POWER {
            return self.unary();
        }
        let mut left = self.level(level + 1)?;
        let mut chained = 0;
        while let Some(op) = LEVELS[level].iter().find(|op| self.is(op)) {
            chained += 1;
            if self.depth + chained > MAX_DEPTH {
                return self.refuse(format!("nested deeper than {MAX_DEPTH}"));
            }
            self.next += 1;
            let matching = self.matching()?;
            let right = self.level(level + 1)?;
            let (at, op) = (left.at, (*op).to_owned());
            left = Node { at, kind: Kind::Binary { op, sides: Box::new([left, right]), matching } };
        }
        Ok(left)
    }

    /// A sign binds tighter than `*`, and less than `^`.
    fn unary(&mut self) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.refuse(format!("nested deeper than {MAX_DEPTH}"));
        }
        let at = self.at();
        let node = if self.take("-") {
            Node { at, kind: Kind::Negated(Box::new(self.unary()?)) }
        } else if self.take("+") {
            self.unary()?
        } else {
            self.power()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn power(&mut self) -> Parsed<Node> {
        let left = self.postfix()?;
        if !self.take("^") {
            return Ok(left);
        }
        let matching = self.matching()?;
        let right = self.unary()?;
        let at = left.at;
        let sides = Box::new([left, right]);
        Ok(Node { at, kind: Kind::Binary { op: "^".to_owned(), sides, matching } })
    }

    fn matching(&mut self) -> Parsed<Matching> {
        let mut matching = Matching { as_number: self.take("bool"), ..Matching::default() };
        for (word, without) in [("on", false), ("ignoring", true)] {
            if self.take(word) {
                matching.keys = Some(Keys { without, keys: self.keys()? });
            }
        }
        for (word, side) in [("group_left", "left"), ("group_right", "right")] {
            if self.take(word) {
                let include = if self.is("(") { self.keys()? } else { Vec::new() };
                matching.many = Some((side, include));
            }
        }
        Ok(matching)
    }

    fn keys(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut keys = Vec::new();
        while !self.take(")") {
            let Some(Token::Word(key)) = self.peek() else {
                return self.refuse("a label is missing here");
            };
            keys.push(key.clone());
            self.next += 1;
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(keys)
    }

    /// What stands by itself, with `[range]`, `offset` and `@` after it.
    fn postfix(&mut self) -> Parsed<Node> {
        let mut node = self.primary()?;
        loop {
            if self.take("[") {
                let Some(Token::Duration(range)) = self.peek().cloned() else {
                    return self.refuse("a duration such as 5m is missing here");
                };
                self.next += 1;
                if self.take(":") {
                    while !self.take("]") {
                        if self.peek().is_none() {
                            return self.refuse("\"]\" is missing here");
                        }
                        self.next += 1;
                    }
                    node.kind = Kind::Subquery;
                    continue;
                }
                self.expect("]")?;
                match &mut node.kind {
                    Kind::Selector(selector) => selector.range_ms = Some(range),
                    _ => return self.refuse("only a selector has a range"),
                }
            } else if self.take("offset") {
                let sign = if self.take("-") { -1 } else { 1 };
                let Some(Token::Duration(offset)) = self.peek().cloned() else {
                    return self.refuse("a duration such as 5m is missing here");
                };
                self.next += 1;
                match &mut node.kind {
                    Kind::Selector(selector) => {
                        selector.offset_ms = sign * i64::try_from(offset).unwrap_or(i64::MAX);
                    }
                    Kind::Subquery => {}
                    _ => return self.refuse("only a selector has an offset"),
                }
            } else if self.take("@") {
                // A number, or `start()`, `end()`.
                let _ = self.take("-");
                self.next += 1;
                if self.take("(") {
                    self.expect(")")?;
                }
                if let Kind::Selector(selector) = &mut node.kind {
                    selector.fixed = true;
                }
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let at = self.at();
        if self.take("(") {
            self.depth += 1;
            let node = self.level(0)?;
            self.depth -= 1;
            self.expect(")")?;
            return Ok(Node { at, ..node });
        }
        if self.is("{") {
            let matchers = self.matchers()?;
            return Ok(Node {
                at,
                kind: Kind::Selector(Selector { matchers, ..Selector::default() }),
            });
        }
        let Some(token) = self.peek().cloned() else {
            return self.refuse("the expression ends too early");
        };
        self.next += 1;
        let kind = match token {
            Token::Number(number) => Kind::Number(number),
            Token::Text(_) => Kind::Text,
            Token::Word(word) => return self.named(at, word),
            Token::Duration(_) | Token::Sign(_) => {
                self.next -= 1;
                return self.refuse("an expression is missing here");
            }
        };
        Ok(Node { at, kind })
    }

    fn named(&mut self, at: usize, word: String) -> Parsed<Node> {
        let lower = word.to_ascii_lowercase();
        if AGGREGATES.contains(&lower.as_str()) && ["(", "by", "without"].iter().any(|w| self.is(w))
        {
            let before = self.grouping()?;
            let arguments = self.arguments()?;
            let keys = match before {
                Some(keys) => Some(keys),
                None => self.grouping()?,
            };
            return Ok(Node { at, kind: Kind::Aggregate { name: lower, arguments, keys } });
        }
        if self.is("(") {
            let arguments = self.arguments()?;
            return Ok(Node { at, kind: Kind::Call { name: word, arguments } });
        }
        if ["inf", "nan"].contains(&lower.as_str()) {
            let value = if lower == "inf" { f64::INFINITY } else { f64::NAN };
            return Ok(Node { at, kind: Kind::Number(value) });
        }
        let matchers = if self.is("{") { self.matchers()? } else { Vec::new() };
        let selector = Selector { name: Some(word), matchers, ..Selector::default() };
        Ok(Node { at, kind: Kind::Selector(selector) })
    }

    fn grouping(&mut self) -> Parsed<Option<Keys>> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.take(word) {
                return Ok(Some(Keys { without, keys: self.keys()? }));
            }
        }
        Ok(None)
    }

    fn arguments(&mut self) -> Parsed<Vec<Node>> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.take(")") {
            arguments.push(self.level(0)?);
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    fn matchers(&mut self) -> Parsed<Vec<(String, String, String)>> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.take("}") {
            let Some(Token::Word(label)) = self.peek().cloned() else {
                return self.refuse("a label is missing here");
            };
            self.next += 1;
            let Some(op) = ["=", "!=", "=~", "!~"].into_iter().find(|op| self.take(op)) else {
                return self.refuse("one of =, !=, =~ and !~ is missing here");
            };
            let Some(Token::Text(value)) = self.peek().cloned() else {
                return self.refuse("a text in quotes is missing here");
            };
            self.next += 1;
            matchers.push((label, op.to_owned(), value));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(matchers)
    }
}
