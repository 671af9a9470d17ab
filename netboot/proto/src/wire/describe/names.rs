//! Names out of IANA's registries.

/// The name of a message type of DHCPv6 `[RFC 9915 § 7.3]`.
pub(super) fn dhcp6_message(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "Solicit",
        2 => "Advertise",
        3 => "Request",
        4 => "Confirm",
        5 => "Renew",
        6 => "Rebind",
        7 => "Reply",
        8 => "Release",
        9 => "Decline",
        10 => "Reconfigure",
        11 => "Information-request",
        12 => "Relay-forward",
        13 => "Relay-reply",
        _ => return None,
    })
}

/// The name of a status code of DHCPv6 `[RFC 9915 § 21.13]`.
pub(super) fn dhcp6_status(number: u16) -> Option<&'static str> {
    Some(match number {
        0 => "Success",
        1 => "UnspecFail",
        2 => "NoAddrsAvail",
        3 => "NoBinding",
        4 => "NotOnLink",
        5 => "UseMulticast",
        6 => "NoPrefixAvail",
        _ => return None,
    })
}

/// The name of an option of DHCPv6, as the registry "Option Codes" writes it.
#[must_use]
pub fn dhcp6_option(code: u16) -> Option<&'static str> {
    Some(match code {
        1 => "OPTION_CLIENTID",
        2 => "OPTION_SERVERID",
        3 => "OPTION_IA_NA",
        4 => "OPTION_IA_TA",
        5 => "OPTION_IAADDR",
        6 => "OPTION_ORO",
        7 => "OPTION_PREFERENCE",
        8 => "OPTION_ELAPSED_TIME",
        9 => "OPTION_RELAY_MSG",
        11 => "OPTION_AUTH",
        12 => "OPTION_UNICAST",
        13 => "OPTION_STATUS_CODE",
        14 => "OPTION_RAPID_COMMIT",
        15 => "OPTION_USER_CLASS",
        16 => "OPTION_VENDOR_CLASS",
        17 => "OPTION_VENDOR_OPTS",
        18 => "OPTION_INTERFACE_ID",
        19 => "OPTION_RECONF_MSG",
        20 => "OPTION_RECONF_ACCEPT",
        21 => "OPTION_SIP_SERVER_D",
        22 => "OPTION_SIP_SERVER_A",
        23 => "OPTION_DNS_SERVERS",
        24 => "OPTION_DOMAIN_LIST",
        25 => "OPTION_IA_PD",
        26 => "OPTION_IAPREFIX",
        27 => "OPTION_NIS_SERVERS",
        28 => "OPTION_NISP_SERVERS",
        29 => "OPTION_NIS_DOMAIN_NAME",
        30 => "OPTION_NISP_DOMAIN_NAME",
        31 => "OPTION_SNTP_SERVERS",
        32 => "OPTION_INFORMATION_REFRESH_TIME",
        33 => "OPTION_BCMCS_SERVER_D",
        34 => "OPTION_BCMCS_SERVER_A",
        36 => "OPTION_GEOCONF_CIVIC",
        37 => "OPTION_REMOTE_ID",
        38 => "OPTION_SUBSCRIBER_ID",
        39 => "OPTION_CLIENT_FQDN",
        40 => "OPTION_PANA_AGENT",
        41 => "OPTION_NEW_POSIX_TIMEZONE",
        42 => "OPTION_NEW_TZDB_TIMEZONE",
        43 => "OPTION_ERO",
        44 => "OPTION_LQ_QUERY",
        45 => "OPTION_CLIENT_DATA",
        46 => "OPTION_CLT_TIME",
        47 => "OPTION_LQ_RELAY_DATA",
        48 => "OPTION_LQ_CLIENT_LINK",
        52 => "OPTION_CAPWAP_AC_V6",
        53 => "OPTION_RELAY_ID",
        56 => "OPTION_NTP_SERVER",
        57 => "OPTION_V6_ACCESS_DOMAIN",
        58 => "OPTION_SIP_UA_CS_LIST",
        59 => "OPT_BOOTFILE_URL",
        60 => "OPT_BOOTFILE_PARAM",
        61 => "OPTION_CLIENT_ARCH_TYPE",
        62 => "OPTION_NII",
        63 => "OPTION_GEOLOCATION",
        64 => "OPTION_AFTR_NAME",
        66 => "OPTION_RSOO",
        67 => "OPTION_PD_EXCLUDE",
        79 => "OPTION_CLIENT_LINKLAYER_ADDR",
        82 => "OPTION_SOL_MAX_RT",
        83 => "OPTION_INF_MAX_RT",
        94 => "OPTION_S46_CONT_MAPE",
        95 => "OPTION_S46_CONT_MAPT",
        96 => "OPTION_S46_CONT_LW",
        103 => "OPTION_CAPTIVE_PORTAL",
        112 => "OPTION_MUD_URL_V6",
        _ => return None,
    })
}

/// The name of a processor architecture, as the registry "Processor Architecture Types" writes it.
#[must_use]
pub fn architecture(number: u16) -> Option<&'static str> {
    Some(match number {
        0 => "x86 BIOS",
        1 => "NEC/PC98 (DEPRECATED)",
        2 => "Itanium",
        3 => "DEC Alpha (DEPRECATED)",
        4 => "Arc x86 (DEPRECATED)",
        5 => "Intel Lean Client (DEPRECATED)",
        6 => "x86 UEFI",
        7 => "x64 UEFI",
        8 => "EFI Xscale (DEPRECATED)",
        9 => "EBC",
        10 => "ARM 32-bit UEFI",
        11 => "ARM 64-bit UEFI",
        12 => "PowerPC Open Firmware",
        13 => "PowerPC ePAPR",
        14 => "POWER OPAL v3",
        15 => "x86 uefi boot from http",
        16 => "x64 uefi boot from http",
        17 => "ebc boot from http",
        18 => "arm uefi 32 boot from http",
        19 => "arm uefi 64 boot from http",
        20 => "pc/at bios boot from http",
        21 => "arm 32 uboot",
        22 => "arm 64 uboot",
        23 => "arm uboot 32 boot from http",
        24 => "arm uboot 64 boot from http",
        25 => "RISC-V 32-bit UEFI",
        26 => "RISC-V 32-bit UEFI boot from http",
        27 => "RISC-V 64-bit UEFI",
        28 => "RISC-V 64-bit UEFI boot from http",
        29 => "RISC-V 128-bit UEFI",
        30 => "RISC-V 128-bit UEFI boot from http",
        31 => "s390 Basic",
        32 => "s390 Extended",
        33 => "MIPS 32-bit UEFI",
        34 => "MIPS 64-bit UEFI",
        35 => "Sunway 32-bit UEFI",
        36 => "Sunway 64-bit UEFI",
        37 => "LoongArch 32-bit UEFI",
        38 => "LoongArch 32-bit UEFI boot from http",
        39 => "LoongArch 64-bit UEFI",
        40 => "LoongArch 64-bit UEFI boot from http",
        41 => "arm rpiboot",
        _ => return None,
    })
}

/// An enterprise by its number, and those that speak in network boots by name.
pub(super) fn enterprise(number: u32) -> String {
    let name = match number {
        9 => "Cisco",
        11 => "HP",
        311 => "Microsoft",
        343 => "Intel",
        674 => "Dell",
        _ => return format!("enterprise {number}"),
    };
    format!("enterprise {number} ({name})")
}
