//! Manual pages as man(7) has them.

use crate::version;

/// A page under construction.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// `CRIU`, `8`, and what the section of the manual is called.
    pub fn new(name: &str, section: &str, manual: &str) -> Self {
        let mut page = Self(format!(
            ".\\\" Generated: run `make manual'.\n.TH {name} {section} \"\" \"libcriu {}\" \
             \"{manual}\"\n",
            version::OWN
        ));
        // Neither hyphens nor spaces are added: names of options are searched for.
        page.0.push_str(".nr HY 0\n.nh\n.ad l\n");
        page
    }

    pub fn section(&mut self, title: &str) {
        self.0.push_str(&format!(".SH {}\n", escape(&title.to_uppercase())));
    }

    pub fn subsection(&mut self, title: &str) {
        self.0.push_str(&format!(".SS {}\n", escape(title)));
    }

    /// Paragraphs, with an empty line between them.
    pub fn text(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            self.0.push_str(".PP\n");
            self.lines(paragraph);
        }
    }

    /// A tag in bold, and what belongs to it.
    pub fn item(&mut self, tag: &str, text: &str) {
        self.0.push_str(&format!(".TP\n\\fB{}\\fR\n", escape(tag)));
        self.lines(text);
    }

    /// Lines as they are.
    pub fn code(&mut self, text: &str) {
        self.0.push_str(".PP\n.RS 4\n.EX\n");
        self.lines(text);
        self.0.push_str(".EE\n.RE\n");
    }

    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            self.0.push_str(&escape(line));
            self.0.push('\n');
        }
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// No character means anything to the formatter.
fn escape(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let text = text.replace('`', "\\(ga").replace('^', "\\(ha").replace('~', "\\(ti");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_request() {
        assert_eq!(escape(".TH"), "\\&.TH");
        assert_eq!(escape("'--no-x'"), "\\(aq\\-\\-no\\-x\\(aq");
        assert_eq!(escape("a\\b"), "a\\eb");
    }
}
