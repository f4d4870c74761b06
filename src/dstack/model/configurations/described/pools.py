"""What the fields of fleets, volumes, gateways and of the server's own file mean."""

from __future__ import annotations

from dstack.model.configurations.described.told import Told, told

_PORT = told("The SSH port; without it 22", "2222")
_KEY_FILE = told("Path of the private key on your machine", "~/.ssh/id_rsa")
_KEY = told("The key itself, as clients of the HTTP API send it")
_TAGS = told("Labels for the resources that are made at the provider", "{team: research}")
_NAME = told("Its name, 1 to 41 of a-z, 0-9 and `-`")

FIELDS: dict[str, dict[str, Told]] = {
    "FleetConfiguration": {
        "type": told("Says what the file is", "fleet"),
        "name": _NAME,
        "placement": told("`cluster`: instances near each other, on one network", "any", "cluster"),
        "blocks": told("In how many parts an instance can be used by different runs", "4", "auto"),
        "nodes": told(
            "How many instances; `0..N` makes them when runs need them", "2", "0..2", "{min: 1, target: 3, max: 4}"
        ),
        "resources": told("What each instance must have", "{gpu: 24GB..}"),
        "ssh_config": told(
            "Your own hosts, instead of `nodes`",
            "{user: ubuntu, identity_file: ~/.ssh/id_rsa, hosts: [192.168.1.10, 192.168.1.11]}",
        ),
        "env": told("Environment variables of all runs in the fleet; the run's own win", "{NCCL_DEBUG: INFO}"),
    },
    "FleetNodesSpec": {
        "min": told("As many are always kept", "1"),
        "target": told("As many are made at the start; without it `min`", "3"),
        "max": told("At most; without it without limit", "4"),
    },
    "SSHParams": {
        "user": told("The user on all hosts that name none", "ubuntu"),
        "port": _PORT,
        "identity_file": _KEY_FILE,
        "ssh_key": _KEY,
        "proxy_jump": told(
            "The host through which the others are reached",
            "{hostname: jump.example.com, user: me, identity_file: ~/.ssh/id_rsa}",
        ),
        "hosts": told("The hosts", "[192.168.1.10, 192.168.1.11]", "[{hostname: 192.168.1.10, user: root}]"),
        "network": told("The private network of the hosts, for tasks on several nodes", "192.168.1.0/24"),
    },
    "SSHHostParams": {
        "hostname": told("Address or name of the host", "192.168.1.10"),
        "port": _PORT,
        "user": told("The user; without it that of `ssh_config`", "ubuntu"),
        "identity_file": _KEY_FILE,
        "proxy_jump": told(
            "The host through which this one is reached",
            "{hostname: jump.example.com, user: me, identity_file: ~/.ssh/id_rsa}",
        ),
        "internal_ip": told("Its address inside the cluster; on all hosts or on none", "10.0.0.10"),
        "ssh_key": _KEY,
        "blocks": told("In how many parts it can be used; without it that of the fleet", "4", "auto"),
    },
    "SSHProxyParams": {
        "hostname": told("Address or name of the host in between", "jump.example.com"),
        "port": _PORT,
        "user": told("The user there", "me"),
        "identity_file": _KEY_FILE,
        "ssh_key": _KEY,
    },
    "SSHKey": {"public": told("The public half"), "private": told("The private half")},
    "VolumeConfiguration": {
        "type": told("Says what the file is", "volume"),
        "name": _NAME,
        "backend": told("Where it lies; without it on each host, under its name", "aws", "gcp", "runpod", "kubernetes"),
        "region": told("The region", "us-east-1"),
        "availability_zone": told("The zone; without it one is chosen", "us-east-1a"),
        "size": told("How large; `resources: {disk: 500GB}` is an old form", "500GB", "1TB"),
        "volume_id": told("A volume that is there already, which is never deleted", "vol-0abc"),
        "claim_name": told("A claim of Kubernetes that is there already", "datasets"),
        "storage_class_name": told("The storage class of Kubernetes", "fast"),
        "access_modes": told("The access modes of Kubernetes", "[ReadWriteMany]"),
        "read_only": told("Whether it is mounted for reading only", "true"),
        "auto_cleanup_duration": told("It is deleted after this time without use", "7d", "off"),
        "tags": _TAGS,
    },
    "GatewayConfiguration": {
        "type": told("Says what the file is", "gateway"),
        "name": _NAME,
        "default": told("Whether services that name no gateway use this one", "true"),
        "backend": told("Where it is made", "aws"),
        "region": told("The region", "eu-west-1"),
        "instance_type": told("The provider's type of instance; without it a small one", "t3.small"),
        "domain": told(
            "The domain below which services appear", "example.com", '"${{ run.project_name }}.example.com"'
        ),
        "public_ip": told("Whether it has a public address"),
        "load_balancer": told("The provider's load balancer before it", "{type: alb}"),
        "certificate": told("Where its certificates come from; `null` is no HTTPS", "{type: lets-encrypt}", "null"),
        "replicas": told("How many machines; without it one", "2"),
        "tags": _TAGS,
    },
    "LetsEncryptGatewayCertificate": {"type": told("Made by Let's Encrypt", "lets-encrypt")},
    "ACMGatewayCertificate": {
        "type": told("Of AWS Certificate Manager", "acm"),
        "arn": told("Its ARN", "arn:aws:acm:eu-west-1:123456789012:certificate/abc"),
    },
    "GCPCertificateManagerGatewayCertificate": {
        "type": told("Of Google's Certificate Manager", "gcp-cm"),
        "name": told("Its name there", "my-certificate"),
    },
    "ALBGatewayLoadBalancer": {"type": told("AWS's application load balancer", "alb")},
    "ServerConfig": {
        "projects": told(
            "Projects with their backends, made and changed as they stand here",
            "[{name: main, backends: [{type: sim}]}]",
        ),
        "encryption": told(
            "Keys by which what is secret is sealed; without it the file `encryption.key`", "{keys: [{type: identity}]}"
        ),
        "default_permissions": told(
            "What people may do whose role alone does not say it", "{allow_non_admins_create_projects: false}"
        ),
        "plugins": told("Plugins by name; a server that finds any here does not start yet", "[my-plugin]"),
    },
    "ProjectEntry": {
        "name": told("Name of the project; it is made if it is not there", "main"),
        "backends": told(
            "Its backends; those that are left out are removed, without the list all stay", "[{type: sim}]"
        ),
    },
    "BackendEntry": {
        "type": told("Which backend; its own settings stand beside it", "sim", "aws"),
        "creds": told("How the backend knows the server", "{type: default}"),
    },
    "BackendCreds": {
        "type": told("The kind of credentials; what else is needed stands beside it", "default", "access_key")
    },
    "Encryption": {
        "keys": told(
            "The newest first: it seals, all open; at a start everything is sealed anew with it", "[{type: identity}]"
        )
    },
    "IdentityKey": {"type": told("No key of its own: in its place stands the key file of the server", "identity")},
    "AESKey": {
        "type": told("AES-256-GCM", "aes"),
        "name": told("Name of the key, for people", "key-2026"),
        "secret": told(
            "32 random bytes in base64: `openssl rand -base64 32`", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        ),
    },
    "DefaultPermissions": {
        "allow_non_admins_create_projects": told("Whether users who are no global admins may create projects"),
        "allow_non_admins_manage_ssh_fleets": told("Whether members who are no project admins may manage SSH fleets"),
        "allow_managers_manage_secrets": told("Whether project managers may manage secrets"),
    },
}
