"""The keys of a node_config that the clouds know. Ray hands on any other, and the cloud's refusal comes late."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# EC2 RunInstances, and Ray's plural SubnetIds. Source: the EC2 API reference.
AWS = _names("""
    BlockDeviceMappings CapacityReservationSpecification CpuOptions CreditSpecification DisableApiStop
    DisableApiTermination EbsOptimized ElasticGpuSpecification ElasticInferenceAccelerators EnablePrimaryIpv6
    EnclaveOptions HibernationOptions IamInstanceProfile ImageId InstanceInitiatedShutdownBehavior
    InstanceMarketOptions InstanceType Ipv6AddressCount Ipv6Addresses KernelId KeyName LaunchTemplate
    LicenseSpecifications MaintenanceOptions MaxCount MetadataOptions MinCount Monitoring NetworkInterfaces
    NetworkPerformanceOptions Operator Placement PrivateDnsNameOptions PrivateIpAddress RamdiskId
    SecurityGroupIds SubnetId SubnetIds TagSpecifications UserData
""")

# Compute Engine's instance resource. Source: the Compute Engine API reference.
GCP = _names("""
    advancedMachineFeatures canIpForward confidentialInstanceConfig deletionProtection description disks
    displayDevice guestAccelerators hostname instanceEncryptionKey keyRevocationActionType labels machineType
    metadata minCpuPlatform name networkInterfaces networkPerformanceConfig params privateIpv6GoogleAccess
    reservationAffinity resourcePolicies scheduling serviceAccounts shieldedInstanceConfig
    shieldedInstanceIntegrityPolicy sourceMachineImage tags
""")

KNOWN = {"aws": AWS, "gcp": GCP}
