//! Values of socket options, between Python and the bytes that the system takes.

use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyUnicodeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple};

use super::address::SockAddr;
use super::socket::Socket;
use crate::address::Address;
use crate::options::{self, Kind, Row, SYSTEMS};
use crate::sys;

/// Most options' values are an int.
fn int(bytes: &[u8]) -> i64 {
    match bytes.len() {
        0 => 0,
        1..4 => i64::from(bytes[0]),
        4..8 => i64::from(i32::from_ne_bytes(first(bytes))),
        _ => i64::from_ne_bytes(first(bytes)),
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let n = N.min(bytes.len());
    array[..n].copy_from_slice(&bytes[..n]);
    array
}

/// The longest value, with room to spare: a process has at most 65,536 groups.
const MOST: usize = 1 << 20;

/// Room for a value, as the system is to fill it; at first, where it may be longer.
fn room(kind: Kind) -> usize {
    match kind {
        Kind::Text => 64,
        Kind::Bytes | Kind::Ints => 4096,
        Kind::Exactly(size) => size,
        Kind::Long => 8,
        Kind::Linger => sys::linger(None).len(),
        Kind::Time => sys::time(std::time::Duration::ZERO).len(),
        Kind::Credentials => 12,
        Kind::Address => 128,
        _ => 4,
    }
}

fn decode<'py>(py: Python<'py>, row: &Row, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let list = |ints: Vec<i64>| PyList::new(py, ints);
    let words = || bytes.chunks_exact(4).map(|word| i64::from(u32::from_ne_bytes(first(word))));
    Ok(match row.kind {
        Kind::Bool => (int(bytes) != 0).into_pyobject(py)?.to_owned().into_any(),
        Kind::Int | Kind::Index | Kind::IndexNetSet => (int(bytes) as u32).into_pyobject(py)?.into_any(),
        Kind::Signed | Kind::Descriptor => int(bytes).into_pyobject(py)?.into_any(),
        Kind::IndexNet => i32::from_be(int(bytes) as i32).into_pyobject(py)?.into_any(),
        Kind::Long => u64::from_ne_bytes(first(bytes)).into_pyobject(py)?.into_any(),
        Kind::Seconds => (int(bytes) as f64).into_pyobject(py)?.into_any(),
        Kind::SecondsOrNone => Some(int(bytes)).filter(|&time| time >= 0).map(|time| time as f64).into_pyobject(py)?,
        Kind::Millis => (int(bytes) as f64 / 1e3).into_pyobject(py)?.into_any(),
        Kind::Micros => (int(bytes) as f64 / 1e6).into_pyobject(py)?.into_any(),
        Kind::Time => sys::read_time(bytes).as_secs_f64().into_pyobject(py)?.into_any(),
        Kind::Linger => sys::read_linger(bytes).map(|time| time.as_secs()).into_pyobject(py)?.into_any(),
        Kind::Text => {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            PyString::new(py, &String::from_utf8_lossy(&bytes[..end])).into_any()
        }
        Kind::Credentials => PyTuple::new(py, words().map(|word| i64::from(word as i32)))?.into_any(),
        Kind::Ints => list(words().collect())?.into_any(),
        Kind::Address => sys::read_address(bytes).map(SockAddr).into_pyobject(py)?.into_any(),
        Kind::Interface => Ipv4Addr::from(first::<4>(bytes)).to_string().into_pyobject(py)?.into_any(),
        _ => PyBytes::new(py, bytes).into_any(),
    })
}

/// A value on its way in: what is wrong with it is said in terms of its option.
struct Value<'a, 'py> {
    row: &'a Row,
    value: &'a Bound<'py, PyAny>,
}

impl Value<'_, '_> {
    fn wrong(&self, wanted: &str) -> PyErr {
        let kind = self.value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("{} takes {wanted}, not {kind}", self.row.name))
    }

    /// `wrong`, unless a method of the value's own has raised something: that comes out.
    fn wrong_or(&self, error: PyErr, wanted: &str) -> PyErr {
        let py = self.value.py();
        let ours = error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyOverflowError>(py)
            || error.is_instance_of::<PyUnicodeError>(py);
        if ours { self.wrong(wanted) } else { error }
    }

    fn refused(&self, wanted: &str) -> PyErr {
        PyValueError::new_err(format!("{} takes {wanted}, not {}", self.row.name, self.value))
    }

    fn bool(&self) -> PyResult<i32> {
        if let Ok(on) = self.value.extract::<bool>() {
            return Ok(i32::from(on));
        }
        match self.value.extract::<i64>() {
            Ok(on @ 0..=1) => Ok(on as i32),
            Ok(_) => Err(self.wrong("True or False")),
            Err(error) => Err(self.wrong_or(error, "True or False")),
        }
    }

    fn int(&self, least: i64, most: i64) -> PyResult<i32> {
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong("an int"));
        }
        let number: i128 = self.value.extract().map_err(|error| self.wrong_or(error, "an int"))?;
        match i64::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(number as i32),
            _ => Err(self.refused(&format!("{least} to {most}"))),
        }
    }

    fn seconds(&self) -> PyResult<f64> {
        let wanted = match self.row.kind {
            Kind::Linger | Kind::SecondsOrNone => "seconds or None",
            _ => "seconds",
        };
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong(wanted));
        }
        let time = self.value.extract::<f64>().map_err(|error| self.wrong_or(error, wanted))?;
        if time >= 0.0 && time <= f64::from(i32::MAX) { Ok(time) } else { Err(self.refused("seconds from 0")) }
    }

    /// In units of which a second has so many, rounded up: nothing ends early. What was read of the option stays what
    /// it is: 16.1 seconds are 16,100 milliseconds, and not the one more that 16.1 * 1000.0 says.
    fn units(&self, second: f64) -> PyResult<f64> {
        let units = self.seconds()? * second;
        let whole = units.round();
        Ok(if (units - whole).abs() <= whole * f64::EPSILON { whole } else { units.ceil() })
    }

    fn short(&self, second: f64) -> PyResult<i32> {
        let units = self.units(second)?;
        if units <= f64::from(i32::MAX) { Ok(units as i32) } else { Err(self.refused("fewer seconds")) }
    }

    fn bytes(&self) -> PyResult<Vec<u8>> {
        if self.value.is_instance_of::<PyList>() {
            return Err(self.wrong("bytes"));
        }
        self.value.extract().map_err(|error| self.wrong_or(error, "bytes"))
    }

    fn parts(&self, count: usize, wanted: &str) -> PyResult<Vec<Bound<'_, PyAny>>> {
        let parts = self.value.cast::<PyTuple>().map_err(|_| self.wrong(wanted))?;
        if parts.len() != count {
            return Err(self.refused(wanted));
        }
        Ok(parts.iter().collect())
    }

    fn ip<A: std::str::FromStr>(&self, value: &Bound<'_, PyAny>, wanted: &str) -> PyResult<A> {
        let text: String = value.extract().map_err(|error| self.wrong_or(error, wanted))?;
        text.parse().map_err(|_| self.refused(wanted))
    }

    /// An interface: None for the system's choice, an index or a name.
    fn index(&self, value: &Bound<'_, PyAny>) -> PyResult<u32> {
        if value.is_none() {
            return Ok(0);
        }
        if let Ok(name) = value.extract::<String>() {
            return sys::interface_index(&name)
                .ok_or_else(|| PyValueError::new_err(format!("{}: there is no interface '{name}'", self.row.name)));
        }
        value.extract().map_err(|error| self.wrong_or(error, "an interface's name, its index or None"))
    }

    /// An interface of IPv4: by its address too.
    fn interface(&self, value: &Bound<'_, PyAny>) -> PyResult<(Ipv4Addr, u32)> {
        if let Some(address) = value.extract::<String>().ok().and_then(|text| text.parse().ok()) {
            return Ok((address, 0));
        }
        Ok((Ipv4Addr::UNSPECIFIED, self.index(value)?))
    }

    /// The option's number, and the value as the system takes it. An option of a group or a source may be another one there.
    fn encode(&self, number: i32) -> PyResult<(i32, Vec<u8>)> {
        const GROUP: &str = "a tuple of a group's address and an interface";
        const SOURCE: &str = "a tuple of a group's address, an interface and a source's address";
        let word = |number: i32| number.to_ne_bytes().to_vec();
        let bytes = match self.row.kind {
            Kind::Bool => word(self.bool()?),
            Kind::Int => word(self.int(0, u32::MAX.into())?),
            Kind::Signed => word(self.int(i32::MIN.into(), i32::MAX.into())?),
            Kind::Long => {
                let value: i128 = self.value.extract().map_err(|error| self.wrong_or(error, "an int"))?;
                u64::try_from(value).map_err(|_| self.refused("an int of 64 bits, from 0"))?.to_ne_bytes().to_vec()
            }
            Kind::SecondsOrNone if self.value.is_none() => word(-1),
            Kind::Seconds | Kind::SecondsOrNone => word(self.short(1.0)?),
            Kind::Millis => word(self.short(1e3)?),
            Kind::Micros => word(self.short(1e6)?),
            Kind::Time => sys::time(std::time::Duration::from_micros(self.units(1e6)? as u64)),
            Kind::Linger if self.value.is_none() => sys::linger(None),
            Kind::Linger => sys::linger(Some(std::time::Duration::from_secs(self.short(1.0)? as u64))),
            Kind::Text => self.value.extract::<String>().map_err(|error| self.wrong_or(error, "a str"))?.into_bytes(),
            Kind::Nothing if self.value.is_none() => word(0),
            Kind::Nothing => return Err(self.wrong("None")),
            Kind::Group => {
                let parts = self.parts(2, GROUP)?;
                return Ok(sys::group(number, self.ip(&parts[0], GROUP)?, self.interface(&parts[1])?));
            }
            Kind::Source => {
                let parts = self.parts(3, SOURCE)?;
                let (group, source) = (self.ip(&parts[0], SOURCE)?, self.ip(&parts[2], SOURCE)?);
                return Ok(sys::source(number, group, self.interface(&parts[1])?, source));
            }
            Kind::Group6 => {
                let parts = self.parts(2, GROUP)?;
                let group: Ipv6Addr = self.ip(&parts[0], GROUP)?;
                let mut bytes = group.octets().to_vec();
                bytes.extend(self.index(&parts[1])?.to_ne_bytes());
                bytes
            }
            Kind::Interface => {
                let (address, index) = self.interface(self.value)?;
                sys::interface(address, index)
            }
            Kind::Index => self.index(self.value)?.to_ne_bytes().to_vec(),
            Kind::IndexNet | Kind::IndexNetSet => self.index(self.value)?.to_be_bytes().to_vec(),
            _ => self.bytes()?,
        };
        Ok((number, bytes))
    }
}

/// `None`: this system has no such option.
pub fn get<'py>(py: Python<'py>, socket: &Socket, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some((row, number)) = options::find(name) else {
        return Ok(None);
    };
    if !row.readable {
        return Err(PyValueError::new_err(format!("{name} can only be set")));
    }
    let verb = format!("getopt {name} of");
    if row.kind == Kind::Peer {
        // so_peername by its other name: the option insists on the exact length.
        let address = socket.call(py, &verb, socket2::Socket::peer_addr)?;
        return Ok(Some(Address::from_os(&address).map(SockAddr).into_pyobject(py)?.into_any()));
    }
    let bytes = socket.call(py, &verb, |socket| {
        if row.kind == Kind::Program {
            return sys::filter(socket, number);
        }
        let mut bytes = vec![0; room(row.kind)];
        loop {
            match sys::getsockopt(socket, sys::level(row.level), number, &mut bytes) {
                Ok(length) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(error) if sys::is_too_short(&error) && bytes.len() < MOST => bytes.resize(bytes.len() * 4, 0),
                Err(error) => return Err(error),
            }
        }
    })?;
    decode(py, row, &bytes).map(Some)
}

/// `false`: this system has no such option.
pub fn set(py: Python<'_>, socket: &Socket, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some((row, number)) = options::find(name) else {
        return Ok(false);
    };
    if !row.writable {
        return Err(PyValueError::new_err(format!("{name} can only be read")));
    }
    let (number, bytes) = Value { row, value }.encode(number)?;
    socket.call(py, &format!("setopt {name} of"), |socket| {
        if row.kind == Kind::Filter {
            return sys::attach_filter(socket, number, &bytes);
        }
        sys::setsockopt(socket, sys::level(row.level), number, &bytes)
    })?;
    if matches!(name, "so_oobinline" | "so_rcvlowat") {
        socket.source().short_means_nothing();
    }
    Ok(true)
}

/// Every option that some system has.
#[pyfunction]
pub fn option_names() -> Vec<&'static str> {
    let mut names: Vec<_> = options::TABLE.iter().map(|row| row.name).collect();
    names.dedup();
    names
}

/// What this system has: name -> (type, readable, writable).
#[pyfunction]
#[pyo3(name = "options")]
pub fn option_table(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for row in options::table() {
        all.set_item(row.name, (row.kind.name(), row.readable, row.writable))?;
    }
    Ok(all)
}

/// The whole table: (name, type, readable, writable, systems).
#[pyfunction]
pub fn option_rows() -> Vec<(&'static str, &'static str, bool, bool, Vec<&'static str>)> {
    let systems = |row: &Row| {
        let there = SYSTEMS.iter().zip(row.numbers).filter(|&(_, number)| number != options::NO);
        there.map(|(&system, _)| system).collect()
    };
    options::TABLE.iter().map(|row| (row.name, row.kind.name(), row.readable, row.writable, systems(row))).collect()
}
