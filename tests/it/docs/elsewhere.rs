//! Commands of the pages that take more than an empty directory or a mesh, and who runs them.

/// One of them.
pub(super) struct Elsewhere {
    /// The command, as the page has it.
    pub(super) command: &'static str,
    /// The file with what runs it, from the root of the checkout.
    pub(super) file: &'static str,
    /// What runs it: a test's name as it is defined, or the line itself.
    pub(super) by: &'static str,
}

const fn test(command: &'static str, file: &'static str, by: &'static str) -> Elsewhere {
    Elsewhere { command, file, by }
}

const IMAGES: &str = "tests/it/cli/image.rs";
const LOADED: &str = "fn images_are_loaded_listed_saved_verified_and_removed(";
const INSIDE: &str = "tests/e2e/inside.rs";
const PUSHED: &str = "tests/it/registry/push.rs";

pub(super) const ELSEWHERE: &[Elsewhere] = &[
    test(
        "./deploy libvirt 4 --install-deps",
        "tests/e2e/grid.rs",
        "&[\"libvirt\", \"4\", \"--install-deps\"]",
    ),
    test(
        "./deploy libvirt 3 --topology ring --control-planes 3 --install-deps",
        "tests/e2e/control_planes.rs",
        "[\"libvirt\", \"3\", \"--topology\", \"ring\", \"--control-planes\", \"3\", \"--install-deps\"]",
    ),
    test("./deploy -f mesh.yaml", "tests/e2e/line.rs", "\"-f\", \"tests/e2e/line.yaml\""),
    test("./teardown", "tests/e2e/mesh.rs", "join(\"teardown\")"),
    test("cargo xtask ci --install-deps", ".ci/run", "cargo xtask ci --install-deps"),
    test("meshboot deps", "tests/xtask/src/main.rs", "product.arg(\"deps\")"),
    test("meshboot image load busybox.tar", IMAGES, LOADED),
    test("meshboot image save docker.io/library/busybox:latest --to again.tar", IMAGES, LOADED),
    test("meshboot image rm docker.io/library/busybox:latest", IMAGES, LOADED),
    test("meshboot image missing", IMAGES, "fn what_is_missing_is_pulled_once_and_needs_no_registry_then("),
    test("meshboot fault service mirror node1 --for 45s", INSIDE, "fn mirrors_refuse("),
    test("meshboot fault clock node1 +1h --for 45s", INSIDE, "fn a_clock_is_off("),
    test("meshboot fault disk node1 full --for 45s", INSIDE, "fn a_disk_is_full("),
    test(
        "podman login --cert-dir cluster/auth/registry -u meshboot --password-stdin SEED:5443 < \
         cluster/auth/registry-password",
        PUSHED,
        "fn podman_pushes_what_it_has(",
    ),
    test(
        "podman push --cert-dir cluster/auth/registry IMAGE SEED:5443/NAME",
        PUSHED,
        "fn podman_pushes_what_it_has(",
    ),
];
