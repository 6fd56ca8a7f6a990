/** Which of the vector's columns are kept. */
export interface SelectionDefinition {
  readonly atMost: number
  readonly by: 'variance' | 'correlation'
  /** For correlation: a column or field of the predicting input, or `<input>.<field>` of another, which the fit joins. */
  readonly label?: string | undefined
}
