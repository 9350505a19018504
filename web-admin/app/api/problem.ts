/** The one error of the API client, made from problem details (RFC 9457). */

export interface FieldProblem {
  path: string
  message: string
}

export class ApiError extends Error {
  override readonly name = 'ApiError'

  constructor(
    /** The HTTP status; 0 when the server could not be reached. */
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly errors: FieldProblem[] = [],
  ) {
    super(`${status} ${code}: ${detail}`)
  }

  /** The server understood and said no; repeating the call changes nothing. */
  get isRefusal(): boolean {
    return this.status >= 400 && this.status < 500
  }
}

export const unreachable = (): ApiError => new ApiError(0, 'unreachable', '')

/** Reads a failed response; a proxy's page or an empty body still makes a usable error. */
export async function problemOf(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null)
  const problem = isRecord(body) ? body : {}
  return new ApiError(
    response.status,
    textOf(problem.code) || 'unexpected',
    textOf(problem.detail) || textOf(problem.title) || response.statusText,
    Array.isArray(problem.errors) ? problem.errors.filter(isRecord).map(fieldProblem) : [],
  )
}

/** Refusals that the console's forms meet and that have words of their own. */
const WITH_WORDS: ReadonlySet<string> = new Set([
  'address_refused',
  'beyond_own_permissions',
  'client_secret_needed',
  'invalid_issuer',
  'not_dead',
  'settings_changed',
  'too_many_webhooks',
  'totp_on',
  'unknown_time_zone',
  'wrong_code',
  'wrong_password',
  'wrong_password_or_code',
])

/** What a person reads: our own words where the status says enough, else the server's. */
export function describeProblem(error: ApiError, t: (key: string) => string): string {
  if (error.status === 0) return t('problem.unreachable')
  if (error.code === 'tenant_not_active') return t('problem.notActive')
  if (WITH_WORDS.has(error.code)) return t(`refusal.${error.code}`)
  if (error.status === 403) return t('problem.denied')
  if (error.status === 404) return t('problem.missing')
  if (error.status === 429) return t('problem.tooMany')
  if (error.status >= 500) return t('problem.server')
  const fields = error.errors.map(({ path, message }) => `${path}: ${message}`)
  return [error.detail, ...fields].filter(Boolean).join('\n') || t('problem.unexpected')
}

function fieldProblem(value: Record<string, unknown>): FieldProblem {
  return { path: textOf(value.path), message: textOf(value.message) }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
