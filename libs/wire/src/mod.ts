export * from './descriptors.ts'
export * as inference from './generated/inference/grpc_service.ts'
export * as meshV1 from './generated/spillway/v1/mesh.ts'
export * as predictionV1 from './generated/spillway/v1/prediction.ts'
