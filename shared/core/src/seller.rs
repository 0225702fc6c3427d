//! The seller that receipts name.

use serde::Serialize;

/// The seller of credits, as the operator's settings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seller {
    pub name: String,
    /// The lines of the address.
    pub address: Vec<String>,
    /// `None` if receipts name none.
    pub tax_id: Option<String>,
}

impl Seller {
    /// Creates the seller. Bars separate the lines of the address: `1 Main Street|10115 Berlin|Germany`.
    #[must_use]
    pub fn new(name: String, address: &str, tax_id: Option<String>) -> Self {
        let lines = address.split('|').map(str::trim).filter(|line| !line.is_empty());
        Self { name, address: lines.map(str::to_owned).collect(), tax_id }
    }
}

#[cfg(test)]
mod tests {
    use super::Seller;

    #[test]
    fn bars_separate_the_lines_of_an_address() {
        let seller = |address| Seller::new("Example Inc.".to_owned(), address, None).address;
        assert_eq!(
            seller("1 Main Street|10115 Berlin | Germany"),
            ["1 Main Street", "10115 Berlin", "Germany"]
        );
        assert_eq!(seller("|"), [""; 0]);
    }
}
