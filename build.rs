//! Which Python this is built for, as `cfg(Py_3_12)` and the like.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
    #[cfg(not(feature = "python"))]
    println!("cargo::rustc-check-cfg=cfg(Py_GIL_DISABLED)");
}
