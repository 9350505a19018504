import type { RouteRecordRaw } from 'vue-router'

export const answersRoutes: RouteRecordRaw[] = [
  {
    path: 'answers',
    name: 'answers',
    component: () => import('./AnswersPage.vue'),
    meta: {
      audience: 'member',
      permission: 'answers.read',
      nav: { group: 'console', order: 30, label: 'nav.answers' },
    },
  },
]
