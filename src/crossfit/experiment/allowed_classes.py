"""The classes of scikit-learn that an experiment file may name, and their parameters.

An experiment file is data and must not execute code. The list therefore omits parameters that name
a folder whose content is unpickled (``memory``), read files instead of texts (``input``), start
processes (``n_jobs``) or take functions.
"""

from __future__ import annotations

from typing import Any

from crossfit.persistence.allowed import BUNDLED

__all__ = ["CLASSES", "KERNELS", "PARAMETERS", "refused_parameter"]

#: Class to module: the classes that bundles may hold, and classes that need not be stored fitted.
#: Estimators that set parameters of others by name (searches) are omitted.
CLASSES = BUNDLED | {
    name: module
    for module, names in {
        "sklearn.calibration": "CalibratedClassifierCV",
        "sklearn.cluster": "Birch BisectingKMeans FeatureAgglomeration KMeans MiniBatchKMeans",
        "sklearn.cross_decomposition": "CCA PLSCanonical PLSRegression PLSSVD",
        "sklearn.decomposition": "DictionaryLearning IncrementalPCA KernelPCA "
        "MiniBatchDictionaryLearning MiniBatchNMF MiniBatchSparsePCA SparsePCA",
        "sklearn.discriminant_analysis": "QuadraticDiscriminantAnalysis",
        "sklearn.dummy": "DummyClassifier",
        "sklearn.ensemble": "AdaBoostClassifier BaggingClassifier ExtraTreesClassifier "
        "GradientBoostingClassifier HistGradientBoostingClassifier RandomForestClassifier "
        "RandomTreesEmbedding StackingClassifier VotingClassifier",
        "sklearn.feature_extraction": "FeatureHasher",
        "sklearn.feature_selection": "GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr "
        "SelectFromModel SelectFwe SelectKBest SelectPercentile SequentialFeatureSelector",
        "sklearn.gaussian_process": "GaussianProcessClassifier",
        "sklearn.impute": "KNNImputer MissingIndicator SimpleImputer",
        "sklearn.kernel_approximation": "AdditiveChi2Sampler Nystroem PolynomialCountSketch "
        "SkewedChi2Sampler",
        "sklearn.linear_model": "LogisticRegressionCV PassiveAggressiveClassifier Perceptron "
        "RidgeClassifierCV SGDClassifier",
        "sklearn.manifold": "Isomap LocallyLinearEmbedding",
        "sklearn.multiclass": "OneVsOneClassifier OutputCodeClassifier",
        "sklearn.multioutput": "ClassifierChain MultiOutputClassifier",
        "sklearn.naive_bayes": "BernoulliNB CategoricalNB ComplementNB",
        "sklearn.neighbors": "KNeighborsTransformer NearestCentroid "
        "NeighborhoodComponentsAnalysis RadiusNeighborsClassifier RadiusNeighborsTransformer",
        "sklearn.neural_network": "BernoulliRBM MLPClassifier",
        "sklearn.preprocessing": "KBinsDiscretizer KernelCenterer MultiLabelBinarizer "
        "OneHotEncoder OrdinalEncoder PolynomialFeatures SplineTransformer TargetEncoder",
        "sklearn.random_projection": "GaussianRandomProjection SparseRandomProjection",
        "sklearn.semi_supervised": "LabelPropagation LabelSpreading SelfTrainingClassifier",
        "sklearn.svm": "NuSVC SVC",
        "sklearn.tree": "DecisionTreeClassifier ExtraTreeClassifier",
    }.items()
    for name in names.split()
}

_PARAMETERS = """
C Cs U_init V_init activation add_indicator algorithm alpha alpha_H alpha_W alphas
alternate_sign analyzer average batch_size beta_1 beta_2 beta_loss binarize binary
bisecting_strategy bootstrap bootstrap_features branching_factor break_ties cache_size
categorical_features categories ccp_alpha chain_method check_inverse class_prior class_weight
classes clip code_init code_size coef0 compute_distances compute_full_tree
compute_inverse_components compute_labels constant copy copy_X copy_X_train copy_x criterion cv
decision_function_shape degree dense_output density dict_init direction distance_threshold
doc_topic_prior drop dtype dual early_stopping eigen_solver encode encoded_missing_value
ensemble eps epsilon error_on_new estimator estimators eta0 evaluate_every extrapolation
feature_range features fill_value final_estimator fit_algorithm fit_intercept
fit_inverse_transform fit_prior flatten_transform force_alpha forget_factor fresh_restarts
fresh_restarts_max_iter fun fun_args gamma handle_missing handle_unknown hessian_tol
hidden_layer_sizes ignore_implicit_zeros include_bias init init_size input_type
interaction_cst interaction_only intercept_scaling iterated_power k k_best keep_empty_features
kernel knots l1_ratio l1_ratios l2_regularization leaf_size learning_decay learning_method
learning_offset learning_rate learning_rate_init linkage loss lowercase max_bins max_categories
max_depth max_df max_doc_update_iter max_features max_fun max_iter max_iter_predict
max_leaf_nodes max_no_improvement max_samples mean_change_tol method metric min_categories
min_df min_features_to_select min_frequency min_impurity_decrease min_samples_leaf
min_samples_split min_weight_fraction_leaf missing_values mode modified_tol momentum
monotonic_cst multi_class n_bins n_clusters n_components n_estimators n_features
n_features_to_select n_init n_iter n_iter_no_change n_knots n_neighbors n_oversamples
n_quantiles n_restarts_optimizer neg_label neighbors_algorithm nesterovs_momentum ngram_range
noise_variance_init norm norm_order nu oob_score order outlier_label
output_distribution p param passthrough path_method penalty percentile perp_tol pos_label
positive positive_code positive_dict power_iteration_normalizer power_t prefit priors
probability quantile_method quantile_range radius random_state reassignment_ratio refit reg
reg_param remainder remove_zero_eig ridge_alpha rotation sample_interval sample_steps scale
scoring shrink_threshold shrinkage shrinking shuffle skewedness smooth smooth_idf solver
sparse sparse_output sparse_threshold split_sign splitter stack_method standardize step steps
stop_words store_covariance store_cv_results strategy strip_accents sublinear_tf subsample
svd_method svd_solver target_type threshold token_pattern tol topic_word_prior total_samples
transform_algorithm transform_alpha transform_max_iter transform_n_nonzero_coefs
transformer_list transformer_weights transformers unit_variance unknown_value use_idf validate
validation_fraction var_smoothing verbose verbose_feature_names_out vocabulary voting w_init
warm_start weights whiten whiten_solver with_centering with_mean with_scaling with_std
"""
#: One list serves all classes, because scikit-learn uses each name with one meaning.
PARAMETERS = frozenset(_PARAMETERS.split())

#: Functions of ``sklearn.metrics.pairwise`` that a file may name, as values of `kernel`.
KERNELS = frozenset(
    f"{name}_kernel"
    for name in ("additive_chi2", "chi2", "laplacian", "linear", "polynomial", "rbf", "sigmoid")
)


def refused_parameter(cls: type, name: str, value: Any) -> str:
    """Return why a file may not set a parameter of a class; empty if it may.

    Parameters
    ----------
    cls : type
        A class of scikit-learn, crossfit or a plugin. For the latter two, only a cache that joblib
        would unpickle is rejected.
    name : str
        The parameter.
    value : object
        Value from the file, with nested objects already built.
    """
    if cls.__module__.partition(".")[0] != "sklearn":
        refused = name == "memory" and not isinstance(value, (int, float))
    else:
        function = callable(value) and not hasattr(value, "get_params")
        refused = name not in PARAMETERS or (function and name not in ("kernel", "metric"))
    if not refused or value is None:
        return ""
    return (
        f"an experiment may not set {name!r} of {cls.__name__}: parameters that name caches or "
        "files, start processes or take functions can only be set in Python"
    )
