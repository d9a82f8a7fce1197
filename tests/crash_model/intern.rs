//! Numbers for values that come up again and again.

use std::hash::Hash;
use std::rc::Rc;

use super::mix::Map;

/// Gives each different value a number.
pub(crate) struct Interner<T> {
    numbers: Map<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: Map::default(),
            values: Vec::new(),
        }
    }
}

impl<T: Eq + Hash + Clone> Interner<T> {
    /// The number of a value.
    pub(crate) fn number(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let value = Rc::new(value.clone());
        let number = u32::try_from(self.values.len()).expect("few values");
        self.values.push(Rc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    /// The value with this number.
    pub(crate) fn value(&self, number: u32) -> Rc<T> {
        Rc::clone(&self.values[number as usize])
    }

    /// How many different values there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[test]
fn equal_values_have_one_number() {
    let mut words = Interner::default();
    let numbers = ["one", "two", "one"].map(|word| words.number(&word));
    assert_eq!(numbers, [0, 1, 0]);
    assert_eq!((*words.value(1), words.len()), ("two", 2));
}
