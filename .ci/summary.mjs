// Adds the checks to the test report's counts, prints the closing line, and fails where anything did.
import { readFileSync } from 'node:fs'

const [, , reportPath, checksFailed, testsStatus] = process.argv
let passed = 0
let failed = 0
let skipped = 0
try {
  const report = JSON.parse(readFileSync(reportPath, 'utf8'))
  passed = report.numPassedTests
  failed = report.numFailedTests
  skipped = report.numPendingTests + report.numTodoTests
  for (const file of report.testResults)
    for (const test of file.assertionResults)
      if (test.status === 'skipped' || test.status === 'pending') console.log(`skipped: ${test.fullName}`)
} catch (error) {
  console.error(`the tests left no report: ${error.message}`)
}
if (checksFailed === '0') passed += 1
else failed += 1
if (testsStatus !== '0' && failed === 0) failed += 1
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = failed === 0 && passed > 1 ? 0 : 1
