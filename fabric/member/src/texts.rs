//! What becomes of the texts that come: taken and kept, or refused and tried again.

use crate::{ask::AskError, directory::Directory, text::Text};
use tracing::warn;

/// Whoever can be asked for the host's text.
pub(crate) trait Asked {
    /// The text, if it is another than the one with this tag; waits a while for one.
    fn text(&self, tag: Option<&str>) -> Result<Option<Text>, AskError>;
}

/// The newest text that came, and what the daemon said to it.
#[derive(Debug)]
pub(crate) struct Texts<T> {
    directory: Directory,
    take: T,
    /// The tag of the newest one, taken or refused.
    newest: Option<String>,
    /// The newest one, if the daemon refused it.
    refused: Option<Text>,
}

/// What came of asking once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing new.
    Same,
    /// The daemon serves the text with this tag.
    Taken(String),
    /// The daemon refuses the text with this tag, and says why.
    Refused(String, String),
}

impl<T: FnMut(&Text) -> Result<(), String>> Texts<T> {
    /// Hands new texts to `take`; the daemon serves the one with the tag `served`, and could not
    /// serve `refused`, the last one that was kept.
    pub(crate) fn new(
        directory: Directory,
        served: Option<String>,
        refused: Option<Text>,
        take: T,
    ) -> Self {
        let newest = refused.as_ref().map(|text| text.tag().to_owned()).or(served);
        Self { directory, take, newest, refused }
    }

    /// Asks once, and says what came of it, and whether the controller answered. A text that was
    /// refused is not asked for again, but tried again now and then, whether somebody answers or not:
    /// what the machine lacked may be there by now.
    pub(crate) fn ask(&mut self, controller: &impl Asked) -> (Heard, Result<(), AskError>) {
        let (came, answered) = match controller.text(self.newest.as_deref()) {
            Ok(came) => (came, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let text = came.or_else(|| self.refused.take());
        (text.map_or(Heard::Same, |text| self.hand_over(text)), answered)
    }

    fn hand_over(&mut self, text: Text) -> Heard {
        let tag = text.tag().to_owned();
        self.newest = Some(tag.clone());
        match (self.take)(&text) {
            Ok(()) => {
                self.refused = None;
                if let Err(error) = self.directory.keep_text(&text) {
                    warn!(%error, "a start without the controller would begin with an older text");
                }
                Heard::Taken(tag)
            }
            Err(reason) => {
                self.refused = Some(text);
                Heard::Refused(tag, reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Answers one after the other, and notes which tags it was asked with.
    struct Script {
        answers: RefCell<Vec<Result<Option<Text>, AskError>>>,
        asked: RefCell<Vec<Option<String>>>,
    }

    impl Asked for Script {
        fn text(&self, tag: Option<&str>) -> Result<Option<Text>, AskError> {
            self.asked.borrow_mut().push(tag.map(str::to_owned));
            self.answers.borrow_mut().remove(0)
        }
    }

    fn script(answers: Vec<Result<Option<Text>, AskError>>) -> Script {
        Script { answers: RefCell::new(answers), asked: RefCell::default() }
    }

    fn made() -> (tempfile::TempDir, Directory) {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::new(outer.path().join("d"));
        directory.make().unwrap();
        (outer, directory)
    }

    /// What came of asking a controller that answers.
    fn heard<T>(texts: &mut Texts<T>, script: &Script) -> Heard
    where
        T: FnMut(&Text) -> Result<(), String>,
    {
        let (heard, answered) = texts.ask(script);
        answered.unwrap();
        heard
    }

    #[test]
    fn a_text_that_is_taken_is_kept_and_asked_about_by_its_tag() {
        let (_outer, directory) = made();
        let (one, two) = (Text::new("a = 1\n"), Text::new("a = 2\n"));
        let script = script(vec![Ok(Some(one.clone())), Ok(None), Ok(Some(two.clone()))]);
        let seen = RefCell::new(Vec::new());
        let mut texts = Texts::new(directory.clone(), None, None, |text: &Text| {
            seen.borrow_mut().push(text.text().to_owned());
            Ok(())
        });
        assert_eq!(heard(&mut texts, &script), Heard::Taken(one.tag().to_owned()));
        assert_eq!(directory.text().unwrap(), Some(one.clone()));
        assert_eq!(heard(&mut texts, &script), Heard::Same);
        assert_eq!(heard(&mut texts, &script), Heard::Taken(two.tag().to_owned()));
        assert_eq!(directory.text().unwrap(), Some(two));
        let tag = Some(one.tag().to_owned());
        assert_eq!(*script.asked.borrow(), [None, tag.clone(), tag]);
        assert_eq!(*seen.borrow(), ["a = 1\n", "a = 2\n"]);
    }

    #[test]
    fn a_text_that_is_refused_is_not_kept_nor_fetched_again_but_tried_again() {
        let (_outer, directory) = made();
        let (good, bad) = (Text::new("a = 1\n"), Text::new("a = 2\n"));
        directory.keep_text(&good).unwrap();
        let script = script(vec![Ok(Some(bad.clone())), Ok(None), Ok(None), Ok(None)]);
        let left = RefCell::new(2);
        let served = Some(good.tag().to_owned());
        let mut texts = Texts::new(directory.clone(), served, None, |_: &Text| {
            let mut left = left.borrow_mut();
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            Err("no such interface".to_owned())
        });
        let refused = Heard::Refused(bad.tag().to_owned(), "no such interface".to_owned());
        assert_eq!(heard(&mut texts, &script), refused);
        assert_eq!(directory.text().unwrap(), Some(good.clone()), "the one before stays");
        assert_eq!(heard(&mut texts, &script), refused);
        assert_eq!(heard(&mut texts, &script), Heard::Taken(bad.tag().to_owned()));
        assert_eq!(directory.text().unwrap(), Some(bad.clone()));
        assert_eq!(heard(&mut texts, &script), Heard::Same);
        let bad = Some(bad.tag().to_owned());
        let good = Some(good.tag().to_owned());
        assert_eq!(*script.asked.borrow(), [good, bad.clone(), bad.clone(), bad]);
    }

    #[test]
    fn an_error_changes_nothing() {
        let (_outer, directory) = made();
        let gone = AskError::Unreachable("gone".to_owned());
        let script = script(vec![Err(gone.clone()), Ok(None)]);
        let take = |_: &Text| -> Result<(), String> { panic!("nothing came") };
        let mut texts = Texts::new(directory, Some("t".to_owned()), None, take);
        assert_eq!(texts.ask(&script), (Heard::Same, Err(gone)));
        assert_eq!(texts.ask(&script), (Heard::Same, Ok(())));
        assert_eq!(script.asked.borrow()[1], Some("t".to_owned()));
    }

    /// At boot an interface may come a moment after the daemon, and the controller not at all.
    #[test]
    fn a_kept_text_that_could_not_be_used_is_tried_again_without_a_controller() {
        let (_outer, directory) = made();
        let kept = Text::new("a = 1\n");
        directory.keep_text(&kept).unwrap();
        let gone = || Err(AskError::Unreachable("gone".to_owned()));
        let script = script(vec![gone(), gone(), gone(), Ok(None)]);
        let tried = RefCell::new(0);
        let mut texts = Texts::new(directory, None, Some(kept.clone()), |text: &Text| {
            assert_eq!(text.text(), "a = 1\n");
            *tried.borrow_mut() += 1;
            if *tried.borrow() == 1 { Err("no such interface".to_owned()) } else { Ok(()) }
        });
        let tag = kept.tag().to_owned();
        let refused = Heard::Refused(tag.clone(), "no such interface".to_owned());
        assert_eq!(texts.ask(&script), (refused, gone().map(drop)));
        assert_eq!(texts.ask(&script), (Heard::Taken(tag.clone()), gone().map(drop)));
        assert_eq!(texts.ask(&script).0, Heard::Same, "once it is taken");
        assert_eq!(texts.ask(&script), (Heard::Same, Ok(())));
        assert_eq!(*tried.borrow(), 2);
        assert_eq!(*script.asked.borrow(), vec![Some(tag); 4]);
    }
}
