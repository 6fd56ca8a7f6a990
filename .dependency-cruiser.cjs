// The layers of docs/architecture.md: each line of `libs` may import only the lines above it; services and the command sit on top.
const layers = ['core', 'wire', 'telemetry', 'bus', 'rpc', 'features', 'serving', 'cascade', 'mesh']

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    ...layers.map((layer, index) => ({
      name: `layer-${layer}`,
      severity: 'error',
      from: { path: `^libs/${layer}/src/` },
      to: {
        path: [...layers.slice(index + 1).map((above) => `^libs/${above}/`), '^services/', '^cli/', '^examples/', '^test/', '^bench/'],
      },
    })),
    {
      name: 'libs-side-by-side',
      comment: 'What a lib may import beyond core, wire and telemetry: serving imports rpc, mesh imports all.',
      severity: 'error',
      from: { path: '^libs/(bus|rpc|features|cascade)/src/' },
      to: { path: '^libs/(bus|rpc|features|serving|cascade|mesh)/', pathNot: '^libs/$1/' },
    },
    { name: 'core-has-no-dependencies', severity: 'error', from: { path: '^libs/core/src/' }, to: { dependencyTypes: ['npm', 'core'] } },
    {
      name: 'services-apart',
      comment: 'A service knows the libs, never another service.',
      severity: 'error',
      from: { path: '^services/([^/]+)/' },
      to: { path: '^(services|cli)/', pathNot: '^services/$1/' },
    },
    {
      name: 'public-surface-only',
      comment: 'A package is used through its mod.ts.',
      severity: 'error',
      from: { path: '^(libs|services)/([^/]+)/src/' },
      to: { path: '^(libs|services)/[^/]+/src/(?!mod\\.ts)', pathNot: '^$1/$2/' },
    },
    { name: 'not-to-test', severity: 'error', from: { path: '/src/' }, to: { path: '/test/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: ['/build/', '/node_modules/', '/training/'] },
    parser: 'swc',
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.mjs', '.js'],
    },
  },
}
