//! A parsed file whose values know where they stand, and the problems found in it.

use super::{
    error::Problem,
    hint::{alternatives, did_you_mean, nearest},
    schema::{self, Schema, TOP},
};
use std::{cell::RefCell, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

type Span = Range<usize>;

/// The longest part of a value that a message repeats, in characters.
const QUOTE_MAX: usize = 40;

/// A file.
pub(super) struct Document<'a> {
    text: &'a str,
    root: Spanned<DeTable<'a>>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    /// The file with this text, if it is TOML.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        let root = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            problem(text, span, error.message().trim().replace('\n', "; "))
        })?;
        Ok(Self { text, root, problems: RefCell::new(Vec::new()) })
    }

    /// Adds a problem with what stands at `span`.
    pub(super) fn report(&self, span: Span, message: String) {
        self.problems.borrow_mut().push(problem(self.text, span, message));
    }

    /// Whether there is any.
    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems
    }

    /// Where a key's value stands; or else its section, or else the file's beginning.
    pub(super) fn place(&self, section: &str, index: usize, key: &str) -> Span {
        let section = self.list(section).into_iter().nth(index);
        match section {
            Some(section) => section.place(key),
            None => 0..0,
        }
    }

    /// The line on which [`Document::place`] is.
    pub(super) fn line(&self, section: &str, index: usize, key: &str) -> usize {
        position(self.text, self.place(section, index, key).start).0
    }

    /// The top of the file, without its sections.
    pub(super) fn top(&self) -> Section<'_, 'a> {
        Section::new(self, TOP, Some(self.root.get_ref()), 0..0)
    }

    /// A section that stands once; its keys are all absent if it is.
    pub(super) fn section(&self, name: &'static str) -> Section<'_, 'a> {
        let mut sections = self.list(name);
        if sections.is_empty() {
            Section::new(self, name, None, 0..0)
        } else {
            sections.swap_remove(0)
        }
    }

    /// A section that may stand any number of times.
    pub(super) fn list(&self, name: &str) -> Vec<Section<'_, 'a>> {
        let schema = schema::section(name);
        if schema.name == TOP {
            return vec![self.top()];
        }
        let one = |value: &'_ Spanned<DeValue<'a>>| value.get_ref().as_table().is_some();
        match find(self.root.get_ref(), name).map(|(_, value)| value) {
            Some(value) if one(value) => vec![self.table(schema.name, value)],
            Some(value) => value
                .get_ref()
                .as_array()
                .into_iter()
                .flat_map(|array| array.iter())
                .filter(|value| one(value))
                .map(|value| self.table(schema.name, value))
                .collect(),
            None => Vec::new(),
        }
    }

    /// Reports sections of the wrong kind, and sections and keys that do not exist.
    pub(super) fn check_keys(&self) {
        self.top().check_keys();
        for (key, value) in self.root.get_ref() {
            let Some(section) = schema::SECTIONS
                .iter()
                .find(|section| section.name != TOP && section.name == key.get_ref())
            else {
                continue;
            };
            let fits = match value.get_ref() {
                DeValue::Table(_) => !section.list,
                DeValue::Array(array) => {
                    section.list && array.iter().all(|item| item.get_ref().is_table())
                }
                _ => false,
            };
            if fits {
                for section in self.list(section.name) {
                    section.check_keys();
                }
            } else {
                let (name, title) = (section.name, section.title());
                let kind = if section.list { "a list" } else { "one section" };
                self.report(key.span(), format!("`{name}` is {kind}: write {title}"));
            }
        }
    }

    fn table<'d>(&'d self, name: &'static str, value: &'d Spanned<DeValue<'a>>) -> Section<'d, 'a> {
        Section::new(self, name, value.get_ref().as_table(), value.span())
    }

    /// A value as the file has it, shortened.
    fn quote(&self, span: Span) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(QUOTE_MAX).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    }
}

/// A section of a file.
pub(super) struct Section<'d, 'a> {
    document: &'d Document<'a>,
    schema: &'static Schema,
    table: Option<&'d DeTable<'a>>,
    span: Span,
}

impl<'d, 'a> Section<'d, 'a> {
    fn new(
        document: &'d Document<'a>,
        name: &str,
        table: Option<&'d DeTable<'a>>,
        span: Span,
    ) -> Self {
        Self { document, schema: schema::section(name), table, span }
    }

    /// The value of a key that must be there; `None` if that is a problem, which is reported.
    ///
    /// `convert` says what the value must be if it is not.
    pub(super) fn required<T>(
        &self,
        key: &str,
        advice: &str,
        convert: impl FnOnce(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            let message = format!("`{key}` is missing {}: {advice}", self.schema.place());
            self.document.report(self.span.clone(), message);
        }
        self.optional(key, convert)?
    }

    /// The value of a key that may be absent: `None` if there is a problem, which is reported.
    #[expect(clippy::option_option, reason = "a problem, or an absent key, or its value")]
    pub(super) fn optional<T>(
        &self,
        key: &str,
        convert: impl FnOnce(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let Some((_, value)) = self.entry(key) else {
            return Some(None);
        };
        match convert(value.get_ref()) {
            Ok(value) => Some(Some(value)),
            Err(expected) => {
                let quote = self.document.quote(value.span());
                let message = format!("`{key}` is {quote}: it must be {expected}");
                self.document.report(value.span(), message);
                None
            }
        }
    }

    /// The value of a key, or its default: `None` if there is a problem, which is reported.
    pub(super) fn or<T>(
        &self,
        key: &str,
        default: T,
        convert: impl FnOnce(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        Some(self.optional(key, convert)?.unwrap_or(default))
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Reports a key, if it is there, as one that has no place beside the others.
    pub(super) fn refuse(&self, key: &str, message: impl FnOnce() -> String) {
        if let Some((span, _)) = self.entry(key) {
            self.document.report(span, message());
        }
    }

    /// Where a key's value stands, or else the section.
    pub(super) fn place(&self, key: &str) -> Span {
        self.entry(key).map_or(self.span.clone(), |(_, value)| value.span())
    }

    /// A problem with a key's value.
    pub(super) fn report_at(&self, key: &str, message: String) {
        self.document.report(self.place(key), message);
    }

    /// A problem with the section.
    pub(super) fn report(&self, message: String) {
        self.document.report(self.span.clone(), message);
    }

    fn entry(&self, key: &str) -> Option<(Span, &'d Spanned<DeValue<'a>>)> {
        debug_assert!(self.schema.keys.contains(&key), "`{key}` is in no schema");
        find(self.table?, key)
    }

    fn check_keys(&self) {
        let entries = self.schema.entries();
        let keys = self.table.into_iter().flat_map(|table| table.keys());
        for key in keys.filter(|key| !entries.contains(&key.get_ref().as_ref())) {
            let message = self.unknown(key.get_ref(), &entries);
            self.document.report(key.span(), message);
        }
    }

    fn unknown(&self, key: &str, entries: &[&str]) -> String {
        let place = self.schema.place();
        let quote = key.escape_debug();
        if nearest(key, entries.iter().copied()).is_some() {
            let hint = did_you_mean(key, '`', entries.iter().copied());
            return format!("unknown key `{quote}` {place}{hint}");
        }
        let elsewhere = schema::SECTIONS.iter().find(|section| section.keys.contains(&key));
        match elsewhere {
            Some(section) if section.name == TOP => {
                format!("`{key}` must stand above the first section, not {place}")
            }
            Some(section) => format!("`{key}` belongs in {}, not {place}", section.title()),
            None => {
                let known = alternatives(entries, '`');
                format!("unknown key `{quote}` {place}; it must be {known}")
            }
        }
    }
}

fn find<'d, 'a>(table: &'d DeTable<'a>, key: &str) -> Option<(Span, &'d Spanned<DeValue<'a>>)> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value))
}

fn problem(text: &str, span: Span, message: String) -> Problem {
    let (line, column) = position(text, span.start);
    Problem { line, column, message }
}

/// Line and column, from 1 on, of a byte of the text.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let lines = before.bytes().filter(|&byte| byte == b'\n').count();
    (lines + 1, line.chars().count() + 1)
}
