//! A table by node that does not grow deeper with the fleet: a node's entry is a step away.

use lindos_model::NodeId;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::Index;

/// More nodes than any fleet has. A snapshot that is damaged must not ask for more.
const NODES_MAX: usize = 1 << 24;

/// Written and read as a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByNode<T> {
    entries: Vec<Option<Box<T>>>,
    len: usize,
}

impl<T> Default for ByNode<T> {
    fn default() -> ByNode<T> {
        ByNode { entries: Vec::new(), len: 0 }
    }
}

impl<T> ByNode<T> {
    pub fn get(&self, node: NodeId) -> Option<&T> {
        self.entries.get(node.index())?.as_deref()
    }

    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut T> {
        self.entries.get_mut(node.index())?.as_deref_mut()
    }

    pub fn insert(&mut self, node: NodeId, entry: T) {
        self.len += usize::from(self.slot(node).replace(Box::new(entry)).is_none());
    }

    /// In the order of the nodes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &T)> {
        let entries = (0..).map(NodeId).zip(&self.entries);
        entries.filter_map(|(node, entry)| Some((node, entry.as_deref()?)))
    }

    fn slot(&mut self, node: NodeId) -> &mut Option<Box<T>> {
        if node.index() >= self.entries.len() {
            self.entries.resize_with(node.index() + 1, || None);
        }
        &mut self.entries[node.index()]
    }
}

impl<T: Default> ByNode<T> {
    /// A node's entry; an empty one if there was none.
    pub fn entry(&mut self, node: NodeId) -> &mut T {
        if self.get(node).is_none() {
            self.insert(node, T::default());
        }
        self.get_mut(node).expect("it was just put there")
    }
}

impl<T> Index<NodeId> for ByNode<T> {
    type Output = T;

    fn index(&self, node: NodeId) -> &T {
        self.get(node).expect("the node has an entry")
    }
}

impl<T: Serialize> Serialize for ByNode<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (node, entry) in self.iter() {
            map.serialize_entry(&node, entry)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByNode<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByNode<T>, D::Error> {
        let mut table = ByNode::default();
        for (node, entry) in BTreeMap::<NodeId, T>::deserialize(deserializer)? {
            if node.index() >= NODES_MAX {
                return Err(D::Error::custom(format!("there is no node {}", node.0)));
            }
            table.insert(node, entry);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_a_map_and_one_with_an_impossible_node_is_refused() {
        let map = BTreeMap::from([(NodeId(7), 1), (NodeId(2), 5), (NodeId(300), 0)]);
        let bytes = postcard::to_stdvec(&map).unwrap();
        let mut table: ByNode<u32> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(postcard::to_stdvec(&table).unwrap(), bytes);
        assert_eq!(
            table.iter().map(|(node, &entry)| (node, entry)).collect::<BTreeMap<_, _>>(),
            map
        );
        table.insert(NodeId(2), 6);
        *table.entry(NodeId(1)) += 1;
        assert_eq!((table.len, table.get(NodeId(1)), table[NodeId(2)]), (4, Some(&1), 6));
        assert_eq!((table.get(NodeId(3)), table.get(NodeId(9_999))), (None, None));
        let bytes = postcard::to_stdvec(&BTreeMap::from([(NodeId(u32::MAX), 1)])).unwrap();
        assert!(postcard::from_bytes::<ByNode<u32>>(&bytes).is_err());
    }
}
