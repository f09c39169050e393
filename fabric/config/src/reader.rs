//! One table of the file, read key by key; every refusal knows its line.
//!
//! The parsed document keeps the place of each key and value, so an error found
//! while reading, and one found much later while references are resolved, both
//! name the line.

use crate::{
    error::{ConfigError, Fault, Parts},
    nearest::nearest,
};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with the line that it stands on.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// What is read, and where its lines begin: a file, and perhaps the controller's text behind it.
#[derive(Debug)]
pub(crate) struct File {
    origins: Origins,
    line_ends: Vec<usize>,
    /// Where the host's own part ends.
    own_len: usize,
}

/// What errors call the places of lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origins {
    own: String,
    /// The second part, and how many lines the first one has.
    text: Option<(String, usize)>,
}

impl Origins {
    /// Name and number of a line that is counted through both parts.
    pub(crate) fn place(&self, line: usize) -> (String, usize) {
        match &self.text {
            Some((origin, before)) if line > *before => (origin.clone(), line - before),
            _ => (self.own.clone(), line),
        }
    }
}

impl File {
    pub(crate) fn new(origin: &str, text: &str) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at);
        let origins = Origins { own: origin.to_owned(), text: None };
        Self { origins, line_ends: line_ends.collect(), own_len: text.len() }
    }

    /// A host's own part with the controller's text behind it, which begins at `own_len`.
    pub(crate) fn joined(origin: &str, text_origin: &str, joined: &str, own_len: usize) -> Self {
        let mut file = Self::new(origin, joined);
        let own_lines = file.line_ends.partition_point(|end| *end < own_len);
        file.origins.text = Some((text_origin.to_owned(), own_lines));
        file.own_len = own_len;
        file
    }

    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Whether what stands at `offset` is the host's own.
    pub(crate) fn is_own(&self, offset: usize) -> bool {
        offset < self.own_len
    }

    /// The line, from 1, of the byte at `offset`.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    /// An error at a line, in a table or at a key of it.
    pub(crate) fn error(
        &self,
        line: usize,
        table: &str,
        key: Option<&str>,
        fault: Fault,
    ) -> ConfigError {
        let (origin, line) = self.origins.place(line);
        let line = Some(line);
        let table = (!table.is_empty()).then(|| table.to_owned());
        Parts { origin, line, table, key: key.map(str::to_owned), fault }.into()
    }

    /// An error of the whole file.
    pub(crate) fn whole(&self, fault: Fault) -> ConfigError {
        let origin = self.origins.own.clone();
        Parts { origin, line: None, table: None, key: None, fault }.into()
    }
}

/// Takes a value apart, or says what is wrong with it.
pub(crate) trait Take<T>: Fn(&DeValue<'_>) -> Result<T, Fault> {}
impl<T, F: Fn(&DeValue<'_>) -> Result<T, Fault>> Take<T> for F {}

/// One table while it is read.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    file: &'a File,
    title: String,
    line: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The table under `title` that starts at byte `offset`. Keys other than
    /// `known` are refused at once.
    pub(crate) fn new(
        file: &'a File,
        title: &str,
        offset: usize,
        table: &'a DeTable<'a>,
        known: &[&'static str],
    ) -> Result<Self, ConfigError> {
        let title = match table.get("name").and_then(|name| name.get_ref().as_str()) {
            // A name can be anything until it is checked: keep the error one line.
            Some(name) if !title.is_empty() && name.len() <= 64 => format!("{title} {name:?}"),
            _ => title.to_owned(),
        };
        let section = Self { file, title, line: file.line(offset), table };
        section.refuse_unknown(known)?;
        Ok(section)
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Refuses the first of these keys that the host's own part has, with a fault.
    pub(crate) fn refuse_own(
        &self,
        keys: &[&'static str],
        fault: impl Fn() -> Fault,
    ) -> Result<(), ConfigError> {
        let own = self.table.keys().filter(|key| self.file.is_own(key.span().start));
        let refused = own
            .filter(|key| keys.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = refused else { return Ok(()) };
        let line = self.file.line(key.span().start);
        Err(self.file.error(line, &self.title, Some(key.get_ref()), fault()))
    }

    /// The value of `key`, which has to be there; `example` is a good one.
    pub(crate) fn required<T>(
        &self,
        key: &str,
        example: &str,
        take: impl Take<T>,
    ) -> Result<At<T>, ConfigError> {
        self.optional(key, take)?.ok_or_else(|| self.missing(key, example))
    }

    /// The error for a key that is missing.
    pub(crate) fn missing(&self, key: &str, example: &str) -> ConfigError {
        let fault = Fault::new("missing", format!("add a line such as `{key} = {example}`"));
        self.file.error(self.line, &self.title, Some(key), fault)
    }

    /// The error for keys that contradict each other, at `key`; `message` is what is wrong
    /// and, behind a semicolon, what would be right.
    pub(crate) fn contradiction(&self, key: &str, message: &str) -> ConfigError {
        let (problem, remedy) = message.split_once("; ").unwrap_or((message, "mend one of them"));
        self.file.error(self.line, &self.title, Some(key), Fault::new(problem, remedy))
    }

    /// The value of `key`, if it is there.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        take: impl Take<T>,
    ) -> Result<Option<At<T>>, ConfigError> {
        let Some((name, value)) = self.table.get_key_value(key) else { return Ok(None) };
        self.take(key, name.span().start, value.get_ref(), take).map(Some)
    }

    /// The values of the list `key`; none if it is missing. At most `limit`.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        limit: usize,
        take: impl Take<T>,
    ) -> Result<Vec<At<T>>, ConfigError> {
        let Some((name, value)) = self.table.get_key_value(key) else { return Ok(Vec::new()) };
        let Some(items) = value.get_ref().as_array() else {
            let problem = format!("is {}, not a list", kind(value.get_ref()));
            let fault = Fault::new(problem, format!("write `{key} = [..]`"));
            return Err(self.fault_at(name.span().start, key, fault));
        };
        if items.len() > limit {
            let fault =
                Fault::new(format!("has {} entries", items.len()), format!("give at most {limit}"));
            return Err(self.fault_at(name.span().start, key, fault));
        }
        items.iter().map(|item| self.take(key, item.span().start, item.get_ref(), &take)).collect()
    }

    /// The table `[key]` inside this one, if it is there.
    pub(crate) fn table(
        &self,
        key: &str,
        known: &[&'static str],
    ) -> Result<Option<Section<'a>>, ConfigError> {
        let Some((name, value)) = self.table.get_key_value(key) else { return Ok(None) };
        let inner = format!("{} [{key}]", self.title);
        let remedy = if self.title.is_empty() {
            format!("start it with a line `[{key}]`")
        } else {
            format!("write `{key} = {{ {} = .. }}`", known.first().unwrap_or(&""))
        };
        self.section(name, value, inner.trim_start(), &remedy, known).map(Some)
    }

    /// The tables `[[key]]` inside this one, in file order. At most `limit`.
    pub(crate) fn tables(
        &self,
        key: &str,
        limit: usize,
        known: &[&'static str],
    ) -> Result<Vec<Section<'a>>, ConfigError> {
        let Some((name, value)) = self.table.get_key_value(key) else { return Ok(Vec::new()) };
        let title = format!("[[{key}]]");
        let Some(items) = value.get_ref().as_array() else {
            let problem = format!("is {}, not a list of tables", kind(value.get_ref()));
            let fault = Fault::new(problem, format!("start each with a line `{title}`"));
            return Err(self.fault_at(name.span().start, key, fault));
        };
        if items.len() > limit {
            let fault = Fault::new(
                format!("there are {} of them", items.len()),
                format!("one file describes at most {limit}"),
            );
            let line = self.file.line(name.span().start);
            return Err(self.file.error(line, &title, None, fault));
        }
        let remedy = format!("start each with a line `{title}`");
        items.iter().map(|item| self.section(item, item, &title, &remedy, known)).collect()
    }

    fn section<K>(
        &self,
        place: &Spanned<K>,
        value: &'a Spanned<DeValue<'a>>,
        title: &str,
        remedy: &str,
        known: &[&'static str],
    ) -> Result<Section<'a>, ConfigError> {
        let offset = place.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let problem = format!("is {}, not a table", kind(value.get_ref()));
            let fault = Fault::new(problem, remedy);
            return Err(self.file.error(self.file.line(offset), title, None, fault));
        };
        Section::new(self.file, title, offset, table, known)
    }

    fn take<T>(
        &self,
        key: &str,
        offset: usize,
        value: &DeValue<'_>,
        take: impl Take<T>,
    ) -> Result<At<T>, ConfigError> {
        let value = take(value).map_err(|fault| self.fault_at(offset, key, fault))?;
        Ok(At { value, line: self.file.line(offset) })
    }

    fn fault_at(&self, offset: usize, key: &str, fault: Fault) -> ConfigError {
        self.file.error(self.file.line(offset), &self.title, Some(key), fault)
    }

    /// Refuses the first key, in file order, that is not in `known`.
    fn refuse_unknown(&self, known: &[&'static str]) -> Result<(), ConfigError> {
        let unknown = self
            .table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = unknown else { return Ok(()) };
        let word: String = key.get_ref().chars().take(64).collect();
        let remedy = match nearest(&word, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        let fault = Fault::new("unknown key", remedy);
        let line = self.file.line(key.span().start);
        Err(self.file.error(line, &self.title, Some(&word), fault))
    }
}

/// What a value is, with its article, for "is a string, not ...".
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
