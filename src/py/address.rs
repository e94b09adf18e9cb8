//! `sock.SockAddr`.

use std::net::{SocketAddrV4, SocketAddrV6};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyString, PyTuple};

use super::number::{self, NoInt};
use crate::address::{Address, Family};

/// The address of a socket: family, host and port, or a path.
///
/// Immutable, hashable, comparable; iterates as `(host, port)`.
///
/// >>> import sock
/// >>> str(sock.SockAddr('inet6', '::1', 80))
/// '[::1]:80'
/// >>> host, port = sock.SockAddr('inet', '127.0.0.1', 7000)
/// >>> host, port
/// ('127.0.0.1', 7000)
#[pyclass(frozen, eq, ord, hash, module = "sock")]
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SockAddr(pub Address);

/// A number that an address has.
fn field(name: &str, value: Option<&Bound<'_, PyAny>>, most: u32) -> PyResult<u32> {
    let Some(value) = value else { return Ok(0) };
    match number::int(value) {
        Ok(number) if (0..=i64::from(most)).contains(&number) => Ok(number as u32),
        Ok(number) => Err(PyValueError::new_err(format!("{name} must be 0 to {most}, not {number}"))),
        Err(NoInt::OutOfRange) => Err(PyValueError::new_err(format!("{name} must be 0 to {most}"))),
        Err(NoInt::Raised(error)) => Err(error),
        Err(NoInt::WrongType) => {
            Err(PyTypeError::new_err(format!("{name} must be an int, not {}", value.get_type().name()?)))
        }
    }
}

fn family_named(name: &str) -> PyResult<Family> {
    Family::from_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("family must be 'inet', 'inet6' or 'unix', not '{name}'")))
}

#[pymethods]
impl SockAddr {
    #[new]
    #[pyo3(
        signature = (family, host, port=None, flowinfo=None, scope_id=None),
        text_signature = "(family, host, port=None, flowinfo=0, scope_id=0)"
    )]
    fn new(
        family: &str,
        host: &Bound<'_, PyAny>,
        port: Option<&Bound<'_, PyAny>>,
        flowinfo: Option<&Bound<'_, PyAny>>,
        scope_id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let family = family_named(family)?;
        let flowinfo = field("flowinfo", flowinfo, u32::MAX)?;
        let scope_id = field("scope_id", scope_id, u32::MAX)?;
        if family == Family::Unix {
            let name = match host.cast::<PyBytes>() {
                Ok(bytes) => bytes.as_bytes().to_vec(),
                Err(_) => host.py().import("os")?.call_method1("fsencode", (host,))?.extract()?,
            };
            return Ok(SockAddr(Address::Unix(name.into())));
        }
        let Ok(text) = host.extract::<&str>() else {
            return Err(PyTypeError::new_err(format!("host must be a str, not {}", host.get_type().name()?)));
        };
        let port = field("port", port, u16::MAX.into())? as u16;
        match (Address::parse(text, port), family) {
            (Some(Address::V4(addr)), Family::Inet) => Ok(SockAddr(Address::V4(addr))),
            (Some(Address::V6(addr)), Family::Inet6) => {
                let scope_id = if scope_id == 0 { addr.scope_id() } else { scope_id };
                Ok(SockAddr(Address::V6(SocketAddrV6::new(*addr.ip(), port, flowinfo, scope_id))))
            }
            _ => Err(PyValueError::new_err(format!(
                "'{text}' is no numeric {} address: look names up with sock.addr() or sock.resolve()",
                family.name()
            ))),
        }
    }

    /// Reads a numeric host; None if it is a name, or of another family than the one asked for.
    #[staticmethod]
    #[pyo3(signature = (host, port, family=None))]
    fn parse(host: &str, port: u16, family: Option<&str>) -> PyResult<Option<Self>> {
        let family = family.map(family_named).transpose()?;
        let address = Address::parse(host, port).filter(|address| family.is_none_or(|f| f == address.family()));
        Ok(address.map(SockAddr))
    }

    /// 'inet', 'inet6' or 'unix'.
    #[getter]
    fn family(&self) -> &'static str {
        self.0.family().name()
    }

    /// The numeric host; None for a unix address.
    #[getter]
    fn host(&self) -> Option<String> {
        match &self.0 {
            Address::V4(addr) => Some(addr.ip().to_string()),
            Address::V6(addr) => Some(addr.ip().to_string()),
            Address::Unix(_) => None,
        }
    }

    /// The port; 0 for a unix address.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// The path of a unix address, `'\0name'` for an abstract one; None for the others.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.0 {
            Address::Unix(name) => py.import("os")?.call_method1("fsdecode", (PyBytes::new(py, name),)).map(Some),
            _ => Ok(None),
        }
    }

    /// The flow information of an IPv6 address; 0 elsewhere. RFC 3493.
    #[getter]
    fn flowinfo(&self) -> u32 {
        match &self.0 {
            Address::V6(addr) => addr.flowinfo(),
            _ => 0,
        }
    }

    /// The interface's number of a link-local IPv6 address; 0 elsewhere. RFC 4007.
    #[getter]
    fn scope_id(&self) -> u32 {
        match &self.0 {
            Address::V6(addr) => addr.scope_id(),
            _ => 0,
        }
    }

    /// The address alone, in network byte order: 4 or 16 bytes, or the path's.
    fn tobinary<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match &self.0 {
            Address::V4(addr) => PyBytes::new(py, &addr.ip().octets()),
            Address::V6(addr) => PyBytes::new(py, &addr.ip().octets()),
            Address::Unix(name) => PyBytes::new(py, name),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let host = match &self.0 {
            Address::Unix(_) => self.path(py)?.unwrap_or_else(|| PyString::new(py, "").into_any()),
            _ => PyString::new(py, &self.host().unwrap_or_default()).into_any(),
        };
        PyTuple::new(py, [host, self.port().into_pyobject(py)?.into_any()])?.try_iter()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<sock.SockAddr {}>", self.0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let this = slf.get();
        let host = if let Address::Unix(name) = &this.0 {
            PyBytes::new(py, name).into_any()
        } else {
            PyString::new(py, &this.host().unwrap_or_default()).into_any()
        };
        let args = (this.family(), host, this.port(), this.flowinfo(), this.scope_id());
        (slf.get_type(), args).into_pyobject(py)
    }
}

impl From<SocketAddrV4> for SockAddr {
    fn from(addr: SocketAddrV4) -> Self {
        SockAddr(Address::V4(addr))
    }
}
