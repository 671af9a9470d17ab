use super::*;

#[test]
fn versions_are_read_and_written() {
    for text in ["v1.20.2", "v1.33.1", "v2.0.0"] {
        assert_eq!(text.parse::<KubernetesVersion>().unwrap().to_string(), text);
    }
    assert_eq!("1.31.0".parse(), Ok(KubernetesVersion::new(1, 31, 0)));
    for text in ["", "v", "v1", "v1.20", "v1.20.2.1", "v1.20.x", "v1.-2.3", "v1.+2.3", "v1.20.99999"] {
        assert_eq!(text.parse::<KubernetesVersion>(), Err(ParseVersionError(text.to_owned())));
    }
}

#[test]
fn the_api_follows_the_version() {
    let api = |minor| KubernetesVersion::new(1, minor, 0).kubeadm_api();
    assert_eq!([api(20), api(21)], [KubeadmApi::V1Beta2; 2]);
    assert_eq!([api(22), api(30)], [KubeadmApi::V1Beta3; 2]);
    assert_eq!([api(31), api(40)], [KubeadmApi::V1Beta4; 2]);
}
