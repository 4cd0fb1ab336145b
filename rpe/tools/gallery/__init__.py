"""Show a run or a prediction on one page, where objects light up under the mouse."""
