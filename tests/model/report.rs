//! The report of a bench in `docs/benchmarks.md`: a table, a chart, the machine and the date.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use credits_aws::sources::SystemClock;
use credits_store::Clock;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Returns the machine and the date of a measurement.
#[must_use]
pub fn measured_on() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let day = SystemClock.now().strftime("%Y-%m-%d");
    format!("{cores} cores of {}, {day}.", model.unwrap_or("an unknown processor"))
}

/// Replaces a section of `docs/benchmarks.md`, which stands between two marks.
pub fn write_section(name: &str, text: &str) {
    let file = docs().join("benchmarks.md");
    let old = fs::read_to_string(&file).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = old.split_once(&begin).unwrap_or_else(|| panic!("no section {name}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no end of section {name}"));
    fs::write(&file, format!("{before}{begin}\n{text}\n{end}{after}")).unwrap();
}

/// Formats a Markdown table.
#[must_use]
pub fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|", columns.join(" | "));
    text.push_str(&" --- |".repeat(columns.len()));
    text.push('\n');
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

/// Draws a bar chart with a logarithmic scale, because the values span from tens to tens of thousands.
pub fn write_bars(name: &str, title: &str, bars: &[(String, f64)]) {
    let most = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let height = 40 + bars.len() * 26;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" role=\"img\" aria-label=\"{title}\">\n<rect width=\"760\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{title}</text>\n"
    );
    for (place, (label, value)) in bars.iter().enumerate() {
        let y = 34 + place * 26;
        let width = 400.0 * (value.max(1.0).ln() / most.ln()).max(0.01);
        writeln!(
            svg,
            "<text x=\"270\" y=\"{}\" text-anchor=\"end\">{label}</text><rect x=\"278\" y=\"{y}\" width=\"{width:.0}\" \
             height=\"18\" fill=\"#3b6ea5\"/><text x=\"{:.0}\" y=\"{}\">{value:.0}</text>",
            y + 14,
            284.0 + width,
            y + 14,
        )
        .unwrap();
    }
    svg.push_str("</svg>\n");
    let folder = docs().join("benchmarks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.svg")), svg).unwrap();
}
