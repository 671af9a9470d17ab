#!/bin/bash
# dracut module: a machine's first userland. It brings the ports up, fetches and verifies the root image, and lets
# Ignition write the machine's configuration into it. Everything else that dracut could add is left out: the file that
# holds this is loaded by firmware over the network, and each MiB of it is waited for.

# dracut sets the names that are not set here, and reads the functions.
# shellcheck disable=SC2030,SC2031,SC2154

check() {
    # Only when it is named.
    return 255
}

depends() {
    echo bash systemd systemd-initrd systemd-journald systemd-sysusers systemd-tmpfiles systemd-udevd
}

installkernel() {
    # Wired Ethernet of small and rack machines, and of the usual virtual ones.
    hostonly='' instmods \
        virtio_net virtio_pci e1000 e1000e igb igc ixgbe i40e r8169 8139cp atlantic alx atl1c tg3 bnx2 sky2 \
        vmxnet3 hv_netvsc \
        r8152 ax88179_178a asix aqc111 cdc_ether cdc_ncm smsc95xx lan78xx \
        '=drivers/net/phy'
    # The disks that a seed boots from.
    hostonly='' instmods \
        virtio_blk virtio_scsi ahci ata_piix nvme sd_mod usb_storage uas \
        xhci_hcd xhci_pci ehci_hcd ehci_pci ohci_pci uhci_hcd mmc_block sdhci_pci sdhci_acpi \
        hv_storvsc hv_vmbus usbhid hid_generic
    hostonly='' instmods squashfs overlay loop nls_cp437 qemu_fw_cfg af_packet ipv6
}

install() {
    # Ignition with the stages that its own dracut module lists; its dependencies on dracut's network and hook
    # machinery are not taken over.
    (
        # shellcheck disable=SC1091
        . "$dracutbasedir/modules.d/30ignition/module-setup.sh"
        moddir="$dracutbasedir/modules.d/30ignition"
        install
    )

    inst_multiple \
        cat chmod curl cut ip journalctl ln losetup mkdir modprobe mount mv networkctl rm sha256sum sleep stat \
        systemctl tail tee tr udevadm umount
    inst_multiple \
        "$systemdutildir"/systemd-networkd \
        "$systemdutildir"/systemd-networkd-wait-online \
        "$systemdsystemunitdir"/systemd-networkd.service \
        "$systemdsystemunitdir"/systemd-networkd.socket
    inst_sysusers systemd-network.conf
    inst_simple "$moddir/networkd.conf" /etc/systemd/system/systemd-networkd.service.d/meshboot.conf
    inst_simple "$moddir/ports.network" /etc/systemd/network/10-ports.network
    mkdir -p "$initdir/$systemdsystemunitdir/initrd.target.wants"
    ln_r "$systemdsystemunitdir/systemd-networkd.service" \
        "$systemdsystemunitdir/initrd.target.wants/systemd-networkd.service"

    inst_simple "$moddir/manager.conf" /etc/systemd/system.conf.d/meshboot.conf
    # The names that ports have in the real root: they are part of what a machine says of itself.
    inst_rules 75-net-description.rules 80-net-setup-link.rules
    inst_simple /usr/lib/systemd/network/99-default.link

    # Ignition sets SELinux labels whether or not there is SELinux.
    inst_script "$moddir/setfiles" /usr/sbin/setfiles
    # Tells Ignition's generator that no disk holds the root.
    inst_script "$moddir/is-live-image" /usr/bin/is-live-image

    inst_simple "$moddir/common.sh" /usr/lib/meshboot/common.sh
    inst_script "$moddir/identify" /usr/lib/meshboot/identify
    inst_script "$moddir/root" /usr/lib/meshboot/root
    inst_script "$moddir/handover" /usr/lib/meshboot/handover
    inst_script "$moddir/failure" /usr/lib/meshboot/failure
    inst_simple "$moddir/ignition-fetch.conf" \
        "$systemdsystemunitdir/ignition-fetch.service.d/meshboot.conf"

    local entry unit
    for entry in initrd.target.requires/identify initrd-root-fs.target.requires/root \
        initrd-switch-root.target.wants/handover; do
        unit=meshboot-${entry##*/}.service
        inst_simple "$moddir/$unit" "$systemdsystemunitdir/$unit"
        mkdir -p "$initdir/$systemdsystemunitdir/${entry%/*}"
        ln_r "$systemdsystemunitdir/$unit" "$systemdsystemunitdir/${entry%/*}/$unit"
    done
    # systemd's own would ask for a password that nobody has.
    inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/emergency.service"

    # udev's hardware database and persistent storage names of exotic devices are of no use here.
    rm -f "$initdir"/usr/lib/udev/hwdb.bin "$initdir"/etc/udev/hwdb.bin
    printf 'NAME=meshboot\nID=meshboot\nPRETTY_NAME="meshboot initrd"\n' > "$initdir/usr/lib/initrd-release"
    ln -sf ../usr/lib/initrd-release "$initdir/etc/initrd-release"
    ln -sf ../usr/lib/initrd-release "$initdir/etc/os-release"
    echo root:x:0:0::/root:/bin/sh >> "$initdir/etc/passwd"
}
