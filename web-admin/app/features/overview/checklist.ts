/** What a newcomer still has to do, from what is; nothing is ticked by hand. */

export interface Facts {
  isConnected: boolean
  hasMessage: boolean
  hasAnswered: boolean
  hasCompany: boolean
}

export const STEPS = ['channel', 'message', 'answer', 'team'] as const
export type StepName = (typeof STEPS)[number]

export interface ChecklistStep {
  name: StepName
  isDone: boolean
}

export function checklistOf({ isConnected, hasMessage, hasAnswered, hasCompany }: Facts): ChecklistStep[] {
  const done: Record<StepName, boolean> = {
    channel: isConnected,
    message: hasMessage,
    answer: hasAnswered,
    team: hasCompany,
  }
  return STEPS.map((name) => ({ name, isDone: done[name] }))
}

export function isFinished(steps: readonly ChecklistStep[]): boolean {
  return steps.every(({ isDone }) => isDone)
}

/** Words of a hand-over, or in a model's place, are no answer. */
export function hasAnswered(turns: readonly { state: string }[]): boolean {
  return turns.some(({ state }) => state === 'answered')
}
