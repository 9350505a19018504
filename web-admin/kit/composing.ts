/**
 * True for the Enter that sends. While an input method is choosing characters Enter belongs to it;
 * Safari ends the composition before that key arrives and marks it by code 229 only.
 */
export function isSendKey(event: KeyboardEvent): boolean {
  return event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229
}
