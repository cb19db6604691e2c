//! What is written is read back: Parquet, CSV, JSON lines.

use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sink::{
    record::{Column, arbitrary},
    store,
};

/// The fields of a CSV text as RFC 4180 has it, line by line.
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let (mut line, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(rest.next(), Some('\n'), "a bare CR outside of quotes");
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && line.is_empty(), "the text ends within a line");
    lines
}

fn printed(records: &[Record], format: OutputFormat) -> String {
    let mut out = Vec::new();
    let mut sink: &mut Vec<u8> = &mut out;
    let mut printer = Printer::new(&mut sink, format, false, false).unwrap();
    records.iter().for_each(|record| printer.record(record).unwrap());
    printer.flush().unwrap();
    drop(printer);
    String::from_utf8(out).unwrap()
}

fn plain(column: Column, record: &Record) -> String {
    let mut text = String::new();
    column.write_plain(record, &mut text);
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parquet_gives_records_back(records in proptest::collection::vec(arbitrary::record(), 1..20)) {
        let mut rows = store::Rows::default();
        records.iter().for_each(|record| rows.push(record));
        let order: Vec<u32> = (0..records.len() as u32).collect();
        let file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), store::schema(), Some(store::properties(1))).unwrap();
        writer.write(&rows.batch(&order).unwrap()).unwrap();
        writer.close().unwrap();
        let mut found = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            found.extend((0..batch.num_rows()).map(|row| {
                let mut record = Record::default();
                stored::read(&batch, row, &mut record);
                record
            }));
        }
        prop_assert_eq!(found, records);
    }

    #[test]
    fn csv_is_read_back(records in proptest::collection::vec(arbitrary::record(), 1..6)) {
        let lines = csv(&printed(&records, OutputFormat::Csv));
        prop_assert_eq!(&lines[0], &Column::ALL.map(|column| column.name().to_owned()));
        let expected: Vec<Vec<String>> =
            records.iter().map(|record| Column::ALL.iter().map(|column| plain(*column, record)).collect()).collect();
        prop_assert_eq!(&lines[1..], expected);
    }

    /// Each line is an object whose values are those of the columns; what is not there is left out.
    #[test]
    fn json_lines_are_read_back(records in proptest::collection::vec(arbitrary::record(), 1..6)) {
        let text = printed(&records, OutputFormat::JsonLines);
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        prop_assert_eq!(lines.len(), records.len());
        for (line, record) in lines.into_iter().zip(&records) {
            let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            for column in Column::ALL {
                let found = match object.get(column.name()) {
                    None => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                };
                if column.name() == "fields" {
                    let pairs: Vec<_> = object.get("fields").and_then(Value::as_object).into_iter().flatten().collect();
                    prop_assert_eq!(pairs.len(), record.fields.iter().count());
                    prop_assert!(pairs.iter().all(|(key, value)| record.fields.get(key) == value.as_str()));
                } else {
                    prop_assert_eq!(found, plain(column, record), "{}", column.name());
                }
            }
        }
    }
}
