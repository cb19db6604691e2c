//! Templates of text lines: `{time} {host} {severity} {message}`.
//!
//! A name in braces stands for a value of the datagram, `{{` and `}}` for braces; everything else is itself. The names are those
//! of the store's columns, and `source` (address:port), `payload` (the datagram as it was sent) and `field.NAME`. What is not
//! there reads `-`; values are escaped as in [`text`](super), so that a line stays one, whatever is sent.

use std::{fmt, io::Write, net::SocketAddr};

use super::escape;
use crate::sink::{
    batch::RawDatagram,
    record::{
        Record,
        column::{Cell, Column, SEVERITIES},
    },
};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Column(Column),
    Source,
    Payload,
    Field(String),
}

/// Why a template does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub struct TemplateError {
    /// The place: characters from 1.
    pub at: usize,
    problem: String,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let error = |at: usize, problem: String| TemplateError { at: text[..at].chars().count() + 1, problem };
        if text.is_empty() {
            return Err(error(
                0,
                "nothing is there, expected something like `{time} {host} {severity} {message}`".into(),
            ));
        }
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.peek().is_some_and(|(_, next)| *next == c) => {
                    chars.next();
                    literal.push(c);
                }
                '{' => {
                    let rest = &text[at + 1..];
                    let Some(len) = rest.find(['{', '}']).filter(|len| rest.as_bytes()[*len] == b'}') else {
                        return Err(error(at, "a `{` without its `}`; a brace itself is written `{{`".into()));
                    };
                    let name = &rest[..len];
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::parse(name).map_err(|problem| error(at + 1, problem))?);
                    while chars.next_if(|(place, _)| *place <= at + 1 + len).is_some() {}
                }
                '}' => return Err(error(at, "a `}` without its `{`; a brace itself is written `}}`".into())),
                _ if c.is_control() && c != '\t' => {
                    return Err(error(at, "a control character; a line ends by itself, and has no other".into()));
                }
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) {
            return Err(error(0, "no value in it, expected one at least, like `{message}`".into()));
        }
        Ok(Template { pieces, text: text.to_owned() })
    }

    /// Appends the line of a datagram, without its end. `record` is what the datagram was decoded to.
    pub(super) fn write(&self, datagram: &RawDatagram<'_>, record: &Record, room: &mut String, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                // Writing to a vector does not fail.
                Piece::Source => drop(write!(out, "{}", SocketAddr::from((datagram.src_ip, datagram.src_port)))),
                Piece::Payload => escape(super::trim(datagram.payload), out),
                Piece::Field(name) => write_text(record.fields.get(name).unwrap_or_default(), out),
                Piece::Column(column) => write_column(*column, record, room, out),
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Piece {
    fn parse(name: &str) -> Result<Piece, String> {
        match (name, name.strip_prefix("field.")) {
            ("source", _) => Ok(Piece::Source),
            ("payload", _) => Ok(Piece::Payload),
            (_, Some(field)) if !field.is_empty() => Ok(Piece::Field(field.to_owned())),
            _ => Column::from_name(name).map(Piece::Column).ok_or_else(|| {
                let mut names: Vec<&str> = Column::ALL.into_iter().map(Column::name).collect();
                names.extend(["source", "payload", "field.NAME"]);
                let near = names.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
                match near.filter(|(distance, _)| *distance <= 2 && !name.is_empty()) {
                    Some((_, known)) => format!("unknown `{name}`, did you mean `{known}`?"),
                    None => format!("unknown `{name}`, expected one of {}", names.join(", ")),
                }
            }),
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.is_empty() { out.push(b'-') } else { escape(text.as_bytes(), out) }
}

fn write_column(column: Column, record: &Record, room: &mut String, out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = match column.of(record) {
        Cell::Time(utc) => write!(out, "{utc:.6}"),
        Cell::Number(number) => match SEVERITIES.get(number as usize) {
            Some(word) if column == Column::Severity => out.write_all(word.as_bytes()),
            _ => write!(out, "{number}"),
        },
        Cell::Ip(ip) => write!(out, "{ip}"),
        Cell::Flags(flags) => write!(out, "{flags}"),
        Cell::None => out.write_all(b"-"),
        // An empty message is one, too.
        Cell::Text(text) => {
            escape(text.as_bytes(), out);
            Ok(())
        }
        Cell::Fields(fields) => {
            for (at, (key, value)) in fields.iter().enumerate() {
                room.clear();
                room.push_str(if at > 0 { " " } else { "" });
                room.push_str(key);
                room.push('=');
                room.push_str(value);
                escape(room.as_bytes(), out);
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::decode::Single;

    fn line(template: &str, payload: &[u8]) -> String {
        let datagram = RawDatagram {
            time_ns: 1_795_443_419_000_123_999,
            src_ip: "10.0.0.2".parse().unwrap(),
            src_port: 1000,
            dst_ip: "10.0.0.1".parse().unwrap(),
            dst_port: 514,
            payload,
        };
        let mut record = Record::default();
        Single::new(&[]).decode(&datagram, &mut record);
        let mut out = Vec::new();
        Template::parse(template).unwrap().write(&datagram, &record, &mut String::new(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_stand_where_their_names_do() {
        let syslog = b"<11>1 2026-11-23T14:16:59Z web1 nginx 42 ID7 [a@1 k=\"v w\" e=\"x\"] all\nis \x1b[1mwell\n";
        assert_eq!(
            line("{time} {host} {severity} {message}", syslog),
            "2026-11-23T14:16:59.000123Z web1 err all\\nis \\x1b[1mwell"
        );
        assert_eq!(line("{{{app}}}[{pid}] {msgid} {facility} {format} {parts}", syslog), "{nginx}[42] ID7 1 rfc5424 1");
        assert_eq!(
            line("{source}>{dst_ip}:{dst_port} {field.a@1.k}|{fields}", syslog),
            "10.0.0.2:1000>10.0.0.1:514 v w|a@1.k=v w a@1.e=x"
        );
        assert_eq!(line("{payload}", b"<11>x\ty\n"), "<11>x\\ty");
        let kernel = b"6.1.0,6,7,5000,-,caller=T1,ncfrag=0/20;two parts\n";
        assert_eq!(
            line("{release} {seq} {kernel_usec} {caller} {fields} {message}", kernel),
            "6.1.0 7 5000 T1 ncfrag=0/20 two parts"
        );
        // What is not there.
        assert_eq!(
            line("{host} {severity} {app} {field.x} {fields} {event_time} {flags}|{message}", b""),
            "10.0.0.2 - - - - - -|"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (template, said) in [
            ("", "at character 1: nothing is there"),
            ("plain", "at character 1: no value in it"),
            ("é {hots}", "at character 4: unknown `hots`, did you mean `host`?"),
            ("{time} {}", "at character 9: unknown ``, expected one of time, "),
            ("{field.}", "at character 2: unknown `field.`, did you mean `fields`?"),
            ("{time", "at character 1: a `{` without its `}`"),
            ("{time {host}", "at character 1: a `{` without its `}`"),
            ("{host} }", "at character 8: a `}` without its `{`"),
            ("{host}\n{message}", "at character 7: a control character"),
            ("{ host }", "at character 2: unknown ` host `, did you mean `host`?"),
        ] {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.starts_with(said), "{template:?}: {error}");
        }
        let template = "{time}\t{{{message}}} }}";
        assert_eq!(Template::parse(template).unwrap().to_string(), template);
    }
}
