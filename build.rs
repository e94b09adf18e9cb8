//! Which Python this is built for, as `cfg(Py_3_12)` and the like.

fn main() {
    #[cfg(feature = "python")]
    {
        pyo3_build_config::use_pyo3_cfgs();
        // 3.13t has no PyUnstable_TryIncRef. `requires-python` cannot tell it from 3.13.
        let python = pyo3_build_config::get();
        let (version, abi) = (python.version(), python.target_abi());
        assert!(
            !abi.kind().is_free_threaded() || (version.major, version.minor) >= (3, 14),
            "free-threaded Python {version} is too old for sock: take 3.14t or later, or a Python {version} with the GIL"
        );
    }
    #[cfg(not(feature = "python"))]
    println!("cargo::rustc-check-cfg=cfg(Py_GIL_DISABLED)");
}
