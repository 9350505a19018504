/** Where to go on after a detour; only paths of the dashboard itself, whatever the address says. */
export function localPath(next: unknown): string {
  return typeof next === 'string' && /^\/(?![/\\])/.test(next) ? next : '/'
}
