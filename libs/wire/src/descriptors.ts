/** A `google.protobuf.FileDescriptorSet` of every contract and of grpc.health.v1: what gRPC reflection serves. */
export const descriptorSetFile: URL = new URL('./generated/descriptors.binpb', import.meta.url)
